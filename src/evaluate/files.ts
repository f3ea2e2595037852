/** What an evaluation leaves in its folder. */
import { join } from 'node:path'

/** Names below the folder; those without an ending are folders. */
export const evaluationFiles = {
  results: 'evaluation.json',
  samples: 'samples.jsonl',
  predictions: 'predictions.jsonl',
  verdicts: 'verdicts.jsonl',
  reports: 'reports.jsonl',
  grounding: 'grounding.jsonl',
  attention: 'attention.jsonl',
  hidden: 'hidden.jsonl',
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
