/**
 * The folder that twins are written to. What they were made with is noted in it: other twins are refused or replaced, and
 * nothing that `corrupt` did not make is ever deleted.
 */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { deleteAll, ignoreMissing, readTextIfThere, removeTemporaries, writeJson } from '../data/files.js'
import { refuseInputs } from '../data/lock.js'
import { asFileError, FileError } from '../errors.js'

/** What a run writes under one name. */
export const corruptFiles = {
  pairs: 'pairs.jsonl',
  report: 'report.json',
  /** Pairs that were left out, where there are any. */
  failed: 'failed.jsonl',
  /** What the twins were made with. */
  made: 'twins.json',
} as const

/** What a run writes under names that follow from the content, so that it serves again. */
export const corruptFolders = {
  twins: 'corrupted',
  masks: 'masks',
  /** A note for each twin. */
  notes: 'cache/twins',
  /** What a segmenter said. */
  replies: 'cache/segmenter',
} as const

export const twinPath = (name: string, key: string): string => `${corruptFolders.twins}/${name}-${key.slice(0, 16)}.png`
export const maskPathOf = (hash: string): string => `${corruptFolders.masks}/${hash.slice(0, 24)}.png`
export const notePath = (key: string): string => `${corruptFolders.notes}/${key}.json`

/** The key in the name of a twin or note, the hash in that of a mask. */
const namesOf = {
  twins: /^[\w-]+-([0-9a-f]{16})\.png$/,
  masks: /^([0-9a-f]{24})\.png$/,
  notes: /^([0-9a-f]{16})[0-9a-f]{48}\.json$/,
} as const

/** Decides what twins look like: settings, and hashes of what is read. */
type Made = Record<string, unknown>

const format = 'fire-train twins 1'
const noted = z.strictObject({ format: z.literal(format), made: z.record(z.string(), z.unknown()) })

/**
 * Sees that twins may be made in a folder; deletes nothing. `closeOutput` replaces what is there when the new twins are whole.
 * @param inputs files and folders that are read.
 * @throws {ArgumentError} when an input lies among the twins.
 * @throws {FileError} when there are other twins and `overwrite` is not set, or files that `corrupt` did not write.
 */
export async function openOutput(
  out: string,
  made: Made,
  inputs: readonly string[],
  overwrite: boolean,
): Promise<void> {
  for (const folder of Object.values(corruptFolders)) await refuseInputs(join(out, folder), inputs)
  const earlier = await readMade(out)
  if (earlier === 'none') await writeMade(out, made)
  else if (!overwrite) refuseOther(out, earlier, made)
  for (const folder of Object.values(corruptFolders)) await removeTemporaries(join(out, folder))
}

/** Notes what the twins are made with, and deletes those that no pair has. @param kept paths of twins and masks, from `out`. */
export async function closeOutput(out: string, made: Made, kept: ReadonlySet<string>): Promise<void> {
  await writeMade(out, made)
  const keys = new Set([...kept].map((path) => path.slice(-'0123456789abcdef.png'.length, -'.png'.length)))
  const stale = [
    ...(await madeIn(out, 'twins')).filter(({ path }) => !kept.has(path)),
    ...(await madeIn(out, 'masks')).filter(({ path }) => !kept.has(path)),
    ...(await madeIn(out, 'notes')).filter(({ key }) => !keys.has(key)),
  ]
  await deleteAll(stale.map(({ path }) => join(out, path)))
}

const writeMade = (out: string, made: Made): Promise<void> => writeJson(join(out, corruptFiles.made), { format, made })

function refuseOther(out: string, earlier: Made | 'unknown', made: Made): void {
  const hint = 'Use --overwrite to replace them, or another --out.'
  if (earlier === 'unknown') {
    const message = `${out} holds twins, and no ${corruptFiles.made} says what they were made with`
    throw new FileError(message, { detail: { path: out }, hint })
  }
  const now = JSON.parse(JSON.stringify(made)) as Made
  const keys = [...new Set([...Object.keys(earlier), ...Object.keys(now)])]
  const other = keys.filter((key) => !isDeepStrictEqual(earlier[key], now[key]))
  if (other.length === 0) return
  throw new FileError(`${out} holds twins that were made with other settings: ${other.join(', ')}`, {
    detail: { path: out, other },
    hint,
  })
}

/** What the twins in a folder were made with; `unknown` for those of earlier versions, and where the note was moved aside. */
async function readMade(out: string): Promise<Made | 'none' | 'unknown'> {
  const text = await readTextIfThere(join(out, corruptFiles.made))
  const read = text === undefined ? undefined : parsed(noted, text)
  if (text !== undefined && !read) throw foreign(out, [corruptFiles.made])
  const names: readonly string[] = Object.values(corruptFiles)
  const results = (await listed(out)).filter((name) => names.includes(name))
  if (!read && results.length > 0 && !parsed(ownReport, (await readTextIfThere(join(out, corruptFiles.report))) ?? ''))
    throw foreign(out, results)
  const isEmpty = !results.includes(corruptFiles.pairs) && (await madeIn(out, 'twins')).length === 0
  return isEmpty ? 'none' : (read?.made ?? 'unknown')
}

/** What report.json of `corrupt` has, and that of no other stage. */
const ownReport = z.looseObject({ methods: z.looseObject({}), sources: z.looseObject({}), missing: z.looseObject({}) })

const foreign = (out: string, names: readonly string[]): FileError =>
  new FileError(`${out} holds ${names.join(', ')}, which this version of corrupt did not write`, {
    detail: { path: out, names },
    hint: 'Name another --out, or move what is there: --overwrite replaces only what corrupt made.',
  })

function parsed<S extends z.ZodType>(schema: S, text: string): z.output<S> | undefined {
  try {
    return schema.parse(JSON.parse(text))
  } catch {
    return undefined
  }
}

/** The files of a folder that a run made, by their names. */
async function madeIn(out: string, kind: keyof typeof namesOf): Promise<{ path: string; key: string }[]> {
  const folder = corruptFolders[kind]
  return (await listed(join(out, folder))).flatMap((name) => {
    const key = namesOf[kind].exec(name)?.[1]
    return key === undefined ? [] : [{ path: `${folder}/${name}`, key }]
  })
}

const listed = async (folder: string): Promise<string[]> =>
  (await readdir(folder).catch(ignoreMissing).catch(asFileError('Reading', folder))) ?? []
