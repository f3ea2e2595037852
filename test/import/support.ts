/** What the import tests share: sources in folders of their own, imports, and what they wrote. */
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Pair, Sample } from '../../src/data/records.js'
import { type ImportOptions, type ImportReport, importData, type Problem } from '../../src/import/index.js'
import { temporaryFolder, writeImage } from '../fakes/world.js'

export const fixtures = fileURLToPath(new URL('./fixtures/', import.meta.url))

export interface Imported {
  out: string
  report: ImportReport & { problems: Problem[] }
  samples: Sample[]
  pairs: Pair[]
}

/** Imports into a new folder and reads back everything that was written. */
export async function runImport(options: Omit<ImportOptions, 'out'> & { out?: string }): Promise<Imported> {
  const out = options.out ?? join(await temporaryFolder(), 'out')
  const returned = await importData({ ...options, out })
  const { problems, ...report } = JSON.parse(await readFile(join(out, 'import.report.json'), 'utf8'))
  if (JSON.stringify(report) !== JSON.stringify(returned)) throw new Error('the report on disk is not the one returned')
  const records = async (name: string): Promise<unknown[]> => {
    const text = await readFile(join(out, name), 'utf8').catch(() => '')
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line))
  }
  return {
    out,
    report: { ...report, problems },
    samples: (await records('samples.jsonl')) as Sample[],
    pairs: (await records('pairs.jsonl')) as Pair[],
  }
}

/** A folder with these files; objects are written as JSON, numbers are images of that grey. */
export async function sourceOf(files: Record<string, string | number | object>): Promise<string> {
  const root = await temporaryFolder()
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true })
    if (typeof content === 'number') await writeImage(root, name, content)
    else
      await writeFile(
        join(root, name),
        typeof content === 'object' && !Buffer.isBuffer(content) ? JSON.stringify(content) : content,
      )
  }
  return root
}

/** A copy of a fixture folder, with images of different greys under these names. */
export async function fixtureWith(name: string, images: string[]): Promise<string> {
  const root = await sourceOf(Object.fromEntries(images.map((image, index) => [image, 10 + index])))
  for (const file of await readdir(join(fixtures, name))) await copyFile(join(fixtures, name, file), join(root, file))
  return root
}

/** Which records were left out, and why. */
export const reasons = ({ report }: Imported): [string | null, string][] =>
  report.problems.map(({ record, reason }) => [record, reason])

/** How often each thing was noted. */
export const notes = ({ report }: Imported): Record<string, number> =>
  Object.fromEntries(report.notes.map(({ note, count }) => [note, count]))
