/** Several sampled answers to each question. */
import { passAtK } from '../statistics/index.js'
import { type Diversity, diversityOf } from './diversity.js'
import type { VerdictRecord } from './records.js'

/** Means over questions, for a system that answered each one several times. */
export interface SampledResults {
  questions: number
  answers: number
  /** Chance that at least one of k answers is right, for k = 1, 2, 4, 8 … up to the number of answers. */
  passAtK: { k: number; value: number }[]
  /** Share of questions whose answers all have one verdict. A model that guesses raises pass@k and lowers this. */
  consistent: number
  diversity: Diversity
}

/** Null where each question has one answer. */
export function sampledResults(records: readonly VerdictRecord[]): SampledResults | null {
  const questions = new Map<string, VerdictRecord[]>()
  for (const record of records) {
    const given = questions.get(record.sampleId)
    if (given) given.push(record)
    else questions.set(record.sampleId, [record])
  }
  const groups = [...questions.values()]
  const answers = Math.min(...groups.map((group) => group.length))
  if (groups.length === 0 || answers < 2) return null
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
  const right = (group: readonly VerdictRecord[]): number => group.filter(({ verdict }) => verdict === 'correct').length
  const ks = [1, 2, 4, 8, 16, 32, 64].filter((k) => k < answers)
  return {
    questions: groups.length,
    answers,
    passAtK: [...ks, answers].map((k) => ({
      k,
      value: mean(groups.map((group) => passAtK(group.length, right(group), k))),
    })),
    consistent: mean(groups.map((group) => Number(new Set(group.map(({ verdict }) => verdict)).size === 1))),
    diversity: meanDiversity(
      groups.map((group) => diversityOf(group.map(({ text }) => text ?? ''))),
      mean,
    ),
  }
}

/** Each measure over the questions that have it; null where none has. */
function meanDiversity(all: readonly Diversity[], mean: (values: readonly number[]) => number): Diversity {
  const known = (pick: (each: Diversity) => number | null): number | null => {
    const values = all.flatMap((each) => pick(each) ?? [])
    return values.length > 0 ? mean(values) : null
  }
  return {
    uniqueShare: mean(all.map((each) => each.uniqueShare)),
    entropyBits: mean(all.map((each) => each.entropyBits)),
    distinct1: known((each) => each.distinct1),
    distinct2: known((each) => each.distinct2),
    meanEditDistance: known((each) => each.meanEditDistance),
  }
}
