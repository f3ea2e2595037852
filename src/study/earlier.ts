/** Results that would be lost: a model, an input or fire-train itself changed, and what was finished must be done anew. */
import { existsSync } from 'node:fs'
import { readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder, readTextIfThere } from '../data/files.js'
import { asFileError } from '../errors.js'
import { studyFiles } from './files.js'
import type { StudyResults } from './results.js'

/** Moves results with finished cells that are missing now to `earlier/N`: study.json, tables and pages. */
export async function keepEarlier(root: string, results: StudyResults): Promise<void> {
  const before = await readTextIfThere(join(root, studyFiles.results))
  if (before === undefined) return
  const done = new Set(finishedCells(results))
  const known = new Set(results.arms.flatMap(({ name, seeds }) => seeds.map(({ seed }) => `${name}/${seed}`)))
  const lost = finishedCells(JSON.parse(before) as StudyResults).filter((cell) => known.has(cell) && !done.has(cell))
  if (lost.length === 0) return
  const folder = freeFolder(join(root, 'earlier'))
  await makeFolder(folder).catch(asFileError('Making', folder))
  const names = (await readdir(root)).filter((name) => name.endsWith('.html'))
  for (const name of [...names, studyFiles.results, studyFiles.tables]) {
    const path = join(root, name)
    if (existsSync(path)) await rename(path, join(folder, name)).catch(asFileError('Moving', path))
  }
}

const finishedCells = ({ arms }: StudyResults): string[] =>
  arms.flatMap(({ name, seeds }) => seeds.filter(({ state }) => state === 'done').map(({ seed }) => `${name}/${seed}`))

function freeFolder(base: string): string {
  for (let number = 1; ; number += 1) {
    const folder = join(base, String(number))
    if (!existsSync(folder)) return folder
  }
}
