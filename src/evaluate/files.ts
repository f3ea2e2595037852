/** What an evaluation leaves in its folder. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { deleteAll } from '../data/files.js'
import { toJsonl, writeJsonl } from '../data/jsonl.js'
import type { Sample } from '../data/records.js'
import type { Prediction } from './records.js'

/** Names below the folder; those without an ending are folders. */
export const evaluationFiles = {
  results: 'evaluation.json',
  samples: 'samples.jsonl',
  predictions: 'predictions.jsonl',
  verdicts: 'verdicts.jsonl',
  reports: 'reports.jsonl',
  grounding: 'grounding.jsonl',
  maps: 'maps.jsonl',
  priors: 'priors.jsonl',
  labels: 'labels.jsonl',
  attention: 'attention.jsonl',
  hidden: 'hidden.jsonl',
  rewards: 'rewards.jsonl',
  page: 'report.html',
  tables: 'tables',
  /** Each system's answers. */
  answers: 'answers',
  /** Paid replies. */
  cache: 'cache',
} as const

/** Everything that a run leaves, but for what was paid for. */
export const evaluationTraces = (out: string): string[] =>
  Object.values(evaluationFiles)
    .filter((name) => name !== evaluationFiles.cache)
    .map((name) => join(out, name))

/** What is counted from the answers: none of it may stand beside others. */
const counted = [
  'results',
  'verdicts',
  'reports',
  'grounding',
  'maps',
  'priors',
  'labels',
  'rewards',
  'attention',
  'hidden',
  'page',
  'tables',
] as const satisfies (keyof typeof evaluationFiles)[]

/** Removes what was counted from other answers or verdicts. */
export const deleteCounted = (out: string): Promise<void> =>
  deleteAll(counted.map((name) => join(out, evaluationFiles[name])))

/** Numbers of other answers are gone before these stand beside them; those of equal ones stay until there are new ones. */
export async function writeAnswers(
  out: string,
  samples: readonly Sample[],
  predictions: readonly Prediction[],
): Promise<void> {
  const files = [
    [join(out, evaluationFiles.samples), samples],
    [join(out, evaluationFiles.predictions), predictions],
  ] as const
  for (const [path, records] of files) {
    const kept = await readFile(path, 'utf8').catch(() => undefined)
    if (kept !== toJsonl(records)) await deleteCounted(out)
  }
  for (const [path, records] of files) await writeJsonl(path, records)
}
