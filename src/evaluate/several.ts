/**
 * Several drawn answers to each question beside the greedy one: what sampling finds, and how different the answers are. To
 * pair two systems, take `questionPass` of both.
 */
import { type MeanByCluster, meanByCluster, passAtK } from '../statistics/index.js'
import { type Diversity, diversityOf } from './diversity.js'
import type { VerdictRecord } from './records.js'
import { isRight } from './verdicts.js'

/** Means over questions, by image, for a system with several drawn answers to each one. */
export interface SampledResults {
  questions: number
  /** Drawn ones to each question. */
  answers: number
  /** Share of right greedy answers; null where all answers were drawn. */
  greedy: MeanByCluster | null
  /** Chance that at least one of k drawn answers is right, for k = 1, 2, 4, 8 … up to the number of answers. */
  passAtK: ({ k: number } & MeanByCluster)[]
  /** pass@k of the most answers less pass@1, both drawn, paired by question: what drawing more finds. */
  headroom: MeanByCluster
  /** Share of questions whose answers all have one verdict. A model that guesses raises pass@k and lowers this. */
  consistent: number
  diversity: Diversity
}

/** A question and a number of it. Two systems' values of one question are a pair. */
export interface QuestionValue {
  sampleId: string
  imageId: string
  value: number
}

/** The unbiased pass@k of each question, from its drawn answers. @param records verdicts of one system; at least k drawn ones a question. */
export function questionPass(records: readonly VerdictRecord[], k: number): QuestionValue[] {
  return drawnByQuestion(records).map((group) => {
    const [{ sampleId, imageId }] = group
    return { sampleId, imageId, value: passAtK(group.length, group.filter(isRight).length, k) }
  })
}

/** Null where no question has several drawn answers. @param records verdicts of one system. @param seed of the intervals. */
export function sampledResults(records: readonly VerdictRecord[], seed: number): SampledResults | null {
  const groups = drawnByQuestion(records)
  const answers = Math.min(...groups.map((group) => group.length))
  if (groups.length === 0 || answers < 2) return null
  const likeliest = records.filter(({ sampled }) => !sampled)
  const ks = [1, 2, 4, 8, 16, 32, 64].filter((k) => k < answers)
  const passes = [...ks, answers].map((k) => ({ k, of: questionPass(records, k) }))
  const [one, most] = [passes[0].of, (passes.at(-1) ?? passes[0]).of]
  const meanByImage = (items: readonly { imageId: string; value: number }[]): MeanByCluster =>
    meanByCluster(
      items.map(({ imageId, value }) => ({ cluster: imageId, value })),
      seed,
    )
  return {
    questions: groups.length,
    answers,
    greedy:
      likeliest.length === 0 ? null : meanByImage(likeliest.map((each) => ({ ...each, value: Number(isRight(each)) }))),
    passAtK: passes.map(({ k, of }) => ({ k, ...meanByImage(of) })),
    headroom: meanByImage(most.map((each, i) => ({ ...each, value: each.value - one[i].value }))),
    consistent: mean(groups.map((group) => Number(new Set(group.map(({ verdict }) => verdict)).size === 1))),
    diversity: meanDiversity(groups.map((group) => diversityOf(group.map(({ text }) => text ?? '')))),
  }
}

function drawnByQuestion(records: readonly VerdictRecord[]): VerdictRecord[][] {
  const questions = new Map<string, VerdictRecord[]>()
  for (const record of records) {
    if (!record.sampled) continue
    const given = questions.get(record.sampleId)
    if (given) given.push(record)
    else questions.set(record.sampleId, [record])
  }
  return [...questions.values()]
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length

/** Each measure over the questions that have it; null where none has. */
function meanDiversity(all: readonly Diversity[]): Diversity {
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
