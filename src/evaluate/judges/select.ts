/** Which answers a language model looks at, and how two judges agree. */
import { hashNumber } from '../../pairs/choice.js'
import { type Agreement, agreementOf } from '../../statistics/index.js'
import type { JudgeVerdict, OutcomeOfAnswer, VerdictRecord } from '../records.js'

export const judgeOn = ['undecided', 'weak', 'open', 'all'] as const
/** `undecided`: where the rules decide nothing; `weak`: also where they are not sure; `open`: also all open questions. */
export type JudgeOn = (typeof judgeOn)[number]

/** Whether a judge looks at an answer. One that is missing or empty has nothing to look at. */
export function isForJudge({ said, rule, answerType }: VerdictRecord, on: JudgeOn): boolean {
  if (said === '' || rule === null) return false
  if (on === 'all') return true
  if (rule.verdict === 'undecided') return true
  if (on === 'undecided') return false
  return rule.strength === 'weak' || (on === 'open' && answerType === 'open')
}

/** The record with the judge's verdict in place of the rule's. */
export function judgedBy<T extends VerdictRecord>(record: T, judge: JudgeVerdict): T {
  return { ...record, judge, by: 'judge', verdict: judge.verdict, strength: 'strong', reason: judge.reason }
}

/**
 * What a second judge looks at: half of it answers on which the rules were weak or undecided, half the others; drawn by the seed, the
 * same whatever else was judged.
 */
export function sampleForSecond(records: readonly VerdictRecord[], size: number, seed: number): VerdictRecord[] {
  const ranked = records
    .filter(({ judge }) => judge !== null)
    .map((record) => ({
      record,
      rank: hashNumber('second', String(seed), record.system, record.sampleId, String(record.k)),
    }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ record }) => record)
  const isWeak = ({ rule }: VerdictRecord): boolean => rule?.strength === 'weak' || rule?.verdict === 'undecided'
  const [weak, sure] = [ranked.filter(isWeak), ranked.filter((record) => !isWeak(record))]
  const half = Math.floor(size / 2)
  const taken = weak.slice(0, Math.max(half, size - sure.length))
  return [...taken, ...sure.slice(0, size - taken.length)]
}

/** Two judges on the same answers. */
export interface JudgeAgreement extends Agreement {
  /** Answers on which one of them says neither correct nor incorrect. */
  leftOut: number
}

/** Over the answers that both judges decide; null for none. */
export function agreementOfJudges(records: readonly VerdictRecord[]): JudgeAgreement | null {
  return agreementOfVerdicts(
    records.flatMap(({ judge, second }) => (judge && second ? [[judge.verdict, second.verdict] as const] : [])),
  )
}

/** Over the answers that both verdicts of a pair decide; null for none. */
export function agreementOfVerdicts(
  both: readonly (readonly [OutcomeOfAnswer, OutcomeOfAnswer])[],
): JudgeAgreement | null {
  const decided = both.filter((pair) => pair.every((verdict) => verdict === 'correct' || verdict === 'incorrect'))
  if (decided.length === 0) return null
  const count = (first: string, second: string): number =>
    decided.filter(([a, b]) => a === first && b === second).length
  const table = [
    [count('correct', 'correct'), count('correct', 'incorrect')],
    [count('incorrect', 'correct'), count('incorrect', 'incorrect')],
  ] as const
  return { ...agreementOf(table), leftOut: both.length - decided.length }
}
