/** What a stage made before, kept when it runs anew: answers and adapters cost hours or money, and some files were edited by hand. */
import { lstat, rename } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { ignoreMissing, makeFolder, sha256 } from '../data/files.js'
import { asFileError } from '../errors.js'
import type { PlannedStage } from './config.js'
import type { StageState } from './manifest.js'

/**
 * Moves everything that a stage left to `OUTPUT/earlier/STAGE-HASH`, HASH being that of what it was made from.
 * @returns the folder; undefined when there was nothing to move.
 */
export async function setAside(
  output: string,
  { name, traces }: Pick<PlannedStage, 'name' | 'traces'>,
  before: StageState | undefined,
): Promise<string | undefined> {
  const left: string[] = []
  for (const path of traces) if (await isThere(path)) left.push(path)
  if (left.length === 0) return undefined
  const folder = await freeFolder(join(output, 'earlier', `${name}-${before ? hashOf(before) : 'unknown'}`), left)
  await makeFolder(folder).catch(asFileError('Making', folder))
  for (const path of left) await rename(path, join(folder, basename(path))).catch(asFileError('Moving', path))
  return folder
}

/** Where none of the files is yet; a move that was cut off goes on in the folder where it began. */
async function freeFolder(base: string, files: readonly string[]): Promise<string> {
  for (let copy = 1; ; copy += 1) {
    const folder = copy === 1 ? base : `${base}-${copy}`
    const taken = await Promise.all(files.map((path) => isThere(join(folder, basename(path)))))
    if (!taken.includes(true)) return folder
  }
}

async function isThere(path: string): Promise<boolean> {
  return (await lstat(path).catch(ignoreMissing).catch(asFileError('Reading', path))) !== undefined
}

const hashOf = ({ version, settings, inputs }: StageState): string =>
  sha256(JSON.stringify([version, settings, inputs])).slice(0, 8)
