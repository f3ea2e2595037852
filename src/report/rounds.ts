/** Two systems of a finished evaluation as rounds before and after training. */
import { join } from 'node:path'
import { readJsonl } from '../data/jsonl.js'
import { evaluationFiles } from '../evaluate/files.js'
import { type EvaluationResults, readEvaluation } from '../evaluate/finished.js'
import { type VerdictRecord, verdictRecord } from '../evaluate/records.js'
import type { ComparedRounds } from './types.js'

/** The baseline's first answers, and those of the system that was compared with it first. */
export interface EvaluatedRounds {
  results: EvaluationResults
  before: VerdictRecord[]
  after: VerdictRecord[]
}

/** Reads the rounds of a folder. @throws {FileError} when it holds no finished evaluation. */
export async function readRounds(folder: string): Promise<EvaluatedRounds> {
  const results = await readEvaluation(folder)
  const answers = new Map<string, VerdictRecord[]>(results.systems.map(({ name }) => [name, []]))
  for await (const { record } of readJsonl(join(folder, evaluationFiles.verdicts), verdictRecord)) {
    if (record.k === 0) answers.get(record.system)?.push(record)
  }
  const of = (name: string | undefined): VerdictRecord[] => (name === undefined ? [] : (answers.get(name) ?? []))
  return { results, before: of(results.baseline), after: of(results.comparisons.at(0)?.system) }
}

/** Their comparison as the evaluation has it. @returns null where one system was evaluated. */
export function comparedRounds(results: EvaluationResults): ComparedRounds | null {
  const [comparison] = results.comparisons
  if (!comparison || comparison.groups[0].count === 0) return null
  const { questions, detectable, margin, asked, systems } = results
  const of = (name: string) => systems.find((system) => system.name === name)?.groups ?? []
  return {
    ...{ questions, detectable, margin, asked, comparison },
    before: of(comparison.baseline),
    after: of(comparison.system),
  }
}
