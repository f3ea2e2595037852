/** Twins of other settings in the folder: they are replaced or in the way, and never left beside the new ones. */
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { deleteAll, readTextIfThere, writeJson } from '../data/files.js'
import { FileError } from '../errors.js'

/** What the twins in a folder are made with. */
export const settingsFile = 'settings.json'

/** Replies of a segmenter are not of the twins, and stay. */
const made = ['corrupted', 'masks', 'cache/twins', 'pairs.jsonl', 'report.json', 'failed.jsonl', 'sheet.html']

/**
 * Notes the settings in the folder before the first twin is written.
 * @throws {FileError} when there are twins of other settings, and `overwrite`, which deletes them, is not set.
 */
export async function takeFolder(out: string, settings: object, overwrite: boolean): Promise<void> {
  const path = join(out, settingsFile)
  const now = JSON.parse(JSON.stringify(settings)) as Record<string, unknown>
  const earlier = parsed(await readTextIfThere(path))
  const other = earlier
    ? [...new Set([...Object.keys(earlier), ...Object.keys(now)])].filter(
        (key) => !isDeepStrictEqual(earlier[key], now[key]),
      )
    : []
  if (other.length > 0 && !overwrite) {
    throw new FileError(`${out} holds twins that were made with other settings: ${other.join(', ')}`, {
      detail: { path: out, other },
      hint: 'Use --overwrite to replace them, or another --out.',
    })
  }
  if (other.length > 0) await deleteAll(made.map((name) => join(out, name)))
  if (!earlier || other.length > 0) await writeJson(path, now)
}

/** What cannot be read any more says nothing. */
function parsed(text: string | undefined): Record<string, unknown> | undefined {
  try {
    return text === undefined ? undefined : (JSON.parse(text) as Record<string, unknown>)
  } catch {
    return undefined
  }
}
