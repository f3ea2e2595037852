/** Two systems of a finished evaluation as rounds before and after training: what the page of a run shows. */
import { join } from 'node:path'
import { readJsonl } from '../data/jsonl.js'
import { compareRounds, type GroupComparison, type JudgedAnswer } from './accuracy.js'
import { evaluationFiles } from './files.js'
import type { EvaluationResults } from './finished.js'
import { readEvaluation } from './finished.js'
import { verdictRecord } from './records.js'
import { asJudged } from './verdicts.js'

/** The baseline's first answers, those of the system that was compared with it first, and their comparison. */
export interface EvaluatedRounds {
  results: EvaluationResults
  before: JudgedAnswer[]
  after: JudgedAnswer[]
  /** None where one system was evaluated. */
  comparison: GroupComparison[]
}

/** Reads the rounds of a folder. @throws {FileError} when it holds no finished evaluation. */
export async function readRounds(folder: string): Promise<EvaluatedRounds> {
  const results = await readEvaluation(folder)
  const [first] = results.comparisons
  const answers = new Map<string, JudgedAnswer[]>(results.systems.map(({ name }) => [name, []]))
  for await (const { record } of readJsonl(join(folder, evaluationFiles.verdicts), verdictRecord)) {
    if (record.k === 0) answers.get(record.system)?.push(asJudged(record))
  }
  const [before, after] = [answers.get(results.baseline) ?? [], (first && answers.get(first.system)) ?? []]
  return { results, before, after, comparison: first ? compareRounds(before, after) : [] }
}
