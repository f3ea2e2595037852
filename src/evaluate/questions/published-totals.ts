/** What published rules count over all answers of a system, for the numbers of papers that used them. */
import type { Parity, VerdictRecord } from '../records.js'

const rules = ['llavaMed2023', 'llavaMed', 'medEvalKit', 'lmmsEval', 'companion'] as const
/** A published rule that decides answers one by one. */
export type PublishedRule = (typeof rules)[number]

/** Answers that a rule counts, and how many of them it takes for right. */
export interface RuleCount {
  successes: number
  count: number
}

/** A rule on closed and on open questions; `count` 0 where it leaves them out, or leaves them to a judge. */
export interface PublishedTotal {
  rule: PublishedRule
  closed: RuleCount
  open: RuleCount
}

/** All published rules on the first answers of a system. Answers that are missing are in no count. */
export interface PublishedTotals {
  rules: PublishedTotal[]
  /** LLaVA-Med's word scores of open answers, means; null without one. `recall` is its published "open". */
  open: (NonNullable<Parity['scores']> & { count: number }) | null
}

/**
 * Counts what published rules take for right, from `parity` of each verdict.
 * @param records verdicts on the first answer to each question of one system.
 */
export function publishedTotals(records: readonly VerdictRecord[]): PublishedTotals {
  const all = records.flatMap(({ parity }) => parity ?? [])
  const [closed, open] = [all.filter(({ scores }) => !scores), all.filter(({ scores }) => scores)]
  const count = (parities: readonly Parity[], rule: PublishedRule): RuleCount => {
    const counted = parities.flatMap((each) => each[rule] ?? [])
    return { successes: counted.reduce<number>((sum, right) => sum + Number(right), 0), count: counted.length }
  }
  const scores = open.flatMap(({ scores }) => scores ?? [])
  const mean = (name: keyof (typeof scores)[number]): number =>
    scores.reduce((sum, each) => sum + each[name], 0) / scores.length
  const means = () => ({
    ...{ exactMatch: mean('exactMatch'), f1: mean('f1'), precision: mean('precision'), recall: mean('recall') },
    count: scores.length,
  })
  return {
    rules: rules.map((rule) => ({ rule, closed: count(closed, rule), open: count(open, rule) })),
    open: scores.length > 0 ? means() : null,
  }
}
