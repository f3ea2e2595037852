/** Two finished evaluations of the same questions. */
import { basename, join } from 'node:path'
import { readJsonl } from '../data/jsonl.js'
import { DataError } from '../errors.js'
import { compareSystems, type SystemComparison } from './compare.js'
import { evaluationFiles } from './files.js'
import type { EvaluationResults } from './finished.js'
import { readEvaluation } from './finished.js'
import { type VerdictRecord, verdictRecord } from './records.js'

/**
 * Compares the systems of two finished evaluations with the baseline of the first. A system of one name in both is told apart.
 * @throws {DataError} when they answered other questions, or were judged in other ways.
 */
export async function compareEvaluations(
  first: string,
  second: string,
  { margin, seed }: { margin: number; seed: number },
): Promise<SystemComparison[]> {
  const [one, other] = [await readEvaluation(first), await readEvaluation(second)]
  const judgedBy = ({ judging }: EvaluationResults): string =>
    JSON.stringify([judging.first, judging.on, judging.judge?.model, judging.judge?.promptSha256])
  if (judgedBy(one) !== judgedBy(other)) {
    throw new DataError(`${first} was judged ${one.judging.description}, ${second} ${other.judging.description}`, {
      hint: 'Judge one of them again like the other: fire-train evaluate rejudge.',
    })
  }
  const verdicts = new Map<string, VerdictRecord[]>()
  for (const folder of [first, second]) {
    const names = new Map<string, string>()
    for await (const { record } of readJsonl(join(folder, evaluationFiles.verdicts), verdictRecord)) {
      let name = names.get(record.system)
      if (name === undefined) {
        name = verdicts.has(record.system) ? `${record.system} (${basename(folder)})` : record.system
        names.set(record.system, name)
        verdicts.set(name, [])
      }
      verdicts.get(name)?.push(record)
    }
    if (names.size === 0) {
      throw new DataError(`${folder} has no verdicts: there is nothing to compare`, {
        detail: { folder },
        hint: 'Free reports have scores and no verdicts; evaluate both systems together to compare them.',
      })
    }
  }
  return compareSystems(verdicts, { baseline: one.baseline, margin, seed })
}
