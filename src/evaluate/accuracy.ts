/** Accuracy of judged answers by kind of question, and the paired comparison of two rounds on the same questions. */
import type { Verdict } from '../data/records.js'
import {
  type ClusteredItem,
  clusteredMean,
  countPaired,
  type Interval,
  mcnemarExact,
  type PairedCounts,
  type Proportion,
  pairedDifference,
  wilson,
} from '../statistics/index.js'

/** One answer with its verdict. An undecided answer is wrong: it stays in the denominator. */
export interface JudgedAnswer extends Verdict {
  questionId: string
  /** Names the image: questions about one image are a cluster. */
  imageId: string
  answerType: 'closed' | 'open'
  /** What is asked, for instance `presence` or `side`. */
  ask: string
  /** What it is asked about, for instance `nodule`. */
  concept: string
  question: string
  reference: string
  text: string
}

/** A slice of the questions: all of them, or those that share an answer type, what is asked, or a concept. */
export interface Group {
  kind: 'overall' | (typeof GROUPED_BY)[number]
  name: string
}

const GROUPED_BY = ['answerType', 'ask', 'concept'] as const

/** Accuracy of one round in one group, with its Wilson interval. */
export interface GroupAccuracy extends Group {
  accuracy: Proportion
  undecided: number
}

/** Two rounds compared in one group. */
export interface GroupComparison extends Group {
  before: Proportion
  after: Proportion
  undecidedBefore: number
  undecidedAfter: number
  counts: PairedCounts
  difference: Interval & { value: number }
  /** The interval of the difference when questions about one image are not taken as independent. */
  clustered: Interval
  /** Exact McNemar. */
  pValue: number
  conclusion: Conclusion
}

/** `gain` and `loss` only when the interval of the paired difference and the exact test agree that it is not chance. */
export type Conclusion = 'gain' | 'loss' | 'not_resolved'

/** Overall first, then the other kinds, each in alphabetical order. */
function groupsOf(answers: readonly JudgedAnswer[]): (Group & { holds: (answer: JudgedAnswer) => boolean })[] {
  const slices = GROUPED_BY.flatMap((kind) => {
    const names = [...new Set(answers.map((answer) => answer[kind]))].sort()
    // One group of a kind says what all say together.
    if (names.length < 2) return []
    return names.map((name) => ({ kind, name, holds: (answer: JudgedAnswer) => answer[kind] === name }))
  })
  return [{ kind: 'overall', name: 'overall', holds: () => true }, ...slices]
}

/** Accuracy over all answers and within each group; undecided answers count as wrong. */
export function accuracyByGroup(answers: readonly JudgedAnswer[]): GroupAccuracy[] {
  return groupsOf(answers).map(({ kind, name, holds }) => {
    const members = answers.filter(holds)
    return { kind, name, accuracy: accuracyOf(members), undecided: undecidedOf(members) }
  })
}

/**
 * Compares two rounds of answers to the same questions.
 *
 * @throws RangeError when the rounds do not answer the same questions in the same order.
 */
export function compareRounds(before: readonly JudgedAnswer[], after: readonly JudgedAnswer[]): GroupComparison[] {
  const stray = before.findIndex((answer, i) => answer.questionId !== after[i]?.questionId)
  if (before.length !== after.length || stray >= 0) {
    throw new RangeError(`The rounds differ in their questions, first at ${before[stray]?.questionId ?? 'the end'}.`)
  }
  const pairs = before.map((answer, i) => ({ before: answer, after: after[i] }))
  return groupsOf(before).map(({ kind, name, holds }) => {
    const members = pairs.filter((pair) => holds(pair.before))
    const [was, is] = [members.map((pair) => pair.before), members.map((pair) => pair.after)]
    const counts = countPaired(
      was.map((answer) => answer.correct),
      is.map((answer) => answer.correct),
    )
    return {
      kind,
      name,
      before: accuracyOf(was),
      after: accuracyOf(is),
      undecidedBefore: undecidedOf(was),
      undecidedAfter: undecidedOf(is),
      counts,
      ...judgeDifference(counts),
      clustered: clusteredInterval(
        members.map((pair) => ({
          value: Number(pair.after.correct) - Number(pair.before.correct),
          cluster: pair.before.imageId,
        })),
      ),
    }
  })
}

/** What the interval needs, as it is kept. */
function clusteredInterval(items: ClusteredItem[]): Interval {
  const { low, high } = clusteredMean(items)
  return { low, high }
}

const accuracyOf = (answers: readonly JudgedAnswer[]) => wilson(answers.filter((a) => a.correct).length, answers.length)
const undecidedOf = (answers: readonly JudgedAnswer[]) => answers.filter((answer) => !answer.decided).length

function judgeDifference(counts: PairedCounts): Pick<GroupComparison, 'difference' | 'pValue' | 'conclusion'> {
  const difference = pairedDifference(counts)
  const pValue = mcnemarExact(counts)
  const decided = pValue < 0.05 && (difference.low > 0 || difference.high < 0)
  return { difference, pValue, conclusion: !decided ? 'not_resolved' : difference.low > 0 ? 'gain' : 'loss' }
}
