/** The folder of a study with numbers that can be checked by hand: two seeds, arms that are trained and one that is not. */
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import type { ImageRef, Pair } from '../../src/data/records.js'
import type { SectionInput } from '../../src/study/page/section.js'
import type { ArmResults, StudyResults, TableResults } from '../../src/study/results.js'

export interface ArmOptions {
  set?: Record<string, unknown>
  row?: string | null
  /** Right answers of 10 questions by seed; undefined where it is missing. */
  right?: readonly (number | undefined)[]
  words?: number
  /** Steps of every seed. */
  steps?: readonly (readonly string[])[]
  tuned?: number
}

export function armOf(name: string, options: ArmOptions = {}): ArmResults {
  const { set = {}, row = null, right = [5, 7], words = 4, steps = [], tuned } = options
  const isWhole = right.every((each) => each !== undefined)
  const value = right.reduce<number>((sum, each) => sum + (each ?? 0) / 10, 0) / right.length
  const mean = isWhole ? { value, interval: { low: value - 0.05, high: value + 0.05 } } : null
  const seeds = right.map((each, seed): ArmResults['seeds'][number] => {
    const group = { successes: each ?? 0, count: 10 }
    return {
      seed,
      ...(each === undefined ? { state: 'missing', why: 'not begun' } : { state: 'done', why: null }),
      steps: [...(steps[seed] ?? [])],
      tuned: tuned === undefined ? null : { setting: 'train.optimizer.lr', value: tuned, trials: [] },
      groups: each === undefined ? null : { overall: group, closed: group, open: group },
      words: each === undefined ? null : words,
      ...{ seen: 0, sampled: null, rewards: [], unfinished: [] },
    }
  })
  return { name, words: `what ${name} is`, row, set, seeds, means: { overall: mean, closed: mean, open: mean } }
}

export function inputOf(root: string, arms: readonly ArmResults[], table: Partial<TableResults> = {}): SectionInput {
  const about: TableResults = {
    ...{ name: 'mine', title: 'Mine', question: 'Which?', arms: arms.map(({ name }) => name), baseline: arms[0].name },
    ...{ evaluations: [], lines: [], primary: null, comparisons: [] },
    ...table,
  }
  const results: StudyResults = {
    ...{ format: 1, version: '0', title: 'Study', seeds: [0, 1], margin: 0.03, draws: 200, small: false },
    ...{ arms: [...arms], tables: [about], oneRun: [], missing: [] },
  }
  return { root, results, table: about }
}

/** Writes the folder of a finished step. @param files by name: a list is written as lines of JSON. */
export async function writeStep(
  root: string,
  name: string,
  settings: Record<string, unknown>,
  files: Record<string, unknown>,
): Promise<string> {
  const folder = join(root, 'steps', name)
  await mkdir(folder, { recursive: true })
  for (const [file, content] of Object.entries({ ...files, 'step.json': { settings } })) {
    const lines = Array.isArray(content) ? content : [content]
    await writeFile(join(folder, file), lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  }
  return folder
}

/** A pair of texts; what differs is all of them. */
export const pairOf = (id: string, chosen: string, rejected: string, more: Partial<Pair> = {}): Pair => ({
  ...{ id, sampleId: id, images: [], prompt: 'What is shown?', chosen, rejected, origin: 'repaired' },
  edits: [{ chosen: [0, chosen.length], rejected: [0, rejected.length], category: 'presence' }],
  provenance: {},
  ...more,
})

export async function writeImage(folder: string, path: string, grey: number): Promise<ImageRef> {
  const [width, height] = [16, 16]
  const bytes = await sharp({ create: { width, height, channels: 3, background: { r: grey, g: grey, b: grey } } })
    .png()
    .toBuffer()
  await writeFile(join(folder, path), bytes)
  return { path, sha256: createHash('sha256').update(bytes).digest('hex'), width, height }
}

/** Rows of a CSV file by its header; no cell of these has a comma in quotes. */
export function readCsv(csv: string): Record<string, string>[] {
  const [header, ...lines] = csv.trim().split('\r\n')
  const keys = header.split(',')
  return lines.map((line) => Object.fromEntries(line.split(',').map((cell, i) => [keys[i], cell])))
}
