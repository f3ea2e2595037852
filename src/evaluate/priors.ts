/** What can be had without looking: numbers that every accuracy should be read beside. */
import { type Proportion, wilson } from '../statistics/index.js'
import { judgeByRule } from './questions/rule.js'
import type { VerdictRecord } from './records.js'

/** Accuracy of answers that do not depend on the image. */
export interface Priors {
  /** Always the most frequent reference of all questions, of the closed and of the open ones (by what the data set says). */
  majority: { group: 'closed' | 'open'; answer: string; accuracy: Proportion }[]
  /** Always "yes" to the questions whose reference is yes or no. */
  alwaysYes: Proportion | null
}

/** @param records verdicts on the first answer to each question of any one system. */
export function priorsOf(records: readonly VerdictRecord[]): Priors {
  const yesNo = records.filter(({ closedUnder }) => closedUnder.yesNoExact)
  return {
    majority: (['closed', 'open'] as const).flatMap((group) => {
      const members = records.filter(({ closedUnder }) => closedUnder.answerType === (group === 'closed'))
      const answer = mostFrequent(members.map(({ reference }) => reference.trim().toLowerCase()))
      return answer === undefined ? [] : [{ group, answer, accuracy: accuracyOf(members, answer) }]
    }),
    alwaysYes: yesNo.length > 0 ? accuracyOf(yesNo, 'yes') : null,
  }
}

const accuracyOf = (records: readonly VerdictRecord[], text: string): Proportion =>
  wilson(records.filter((record) => isRight(record, text)).length, records.length)

const isRight = ({ question, reference, answerType }: VerdictRecord, text: string): boolean =>
  judgeByRule({ question, answer: reference, answerType }, text).verdict === 'correct'

/** Of equally frequent ones the first by name. */
function mostFrequent(texts: readonly string[]): string | undefined {
  const counts = new Map<string, number>()
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1)
  return [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))[0]?.[0]
}
