/** Counts of what became a pair and what did not, for the acceptance table of a report. */
import type { Pair } from '../data/records.js'
import type { Origin, PairOutcome, Rejection } from './build.js'

/** Counts of what became a pair and what did not. */
export interface PairStatistics {
  answers: number
  pairs: number
  byOrigin: Record<Origin, number>
  /** Edits, not pairs: a pair may hold several. */
  byCategory: Record<string, number>
  /** Edits of each category, by the origin of their pair. */
  byOriginAndCategory: Record<Origin, Record<string, number>>
  byRejection: Partial<Record<Rejection, number>>
  /** Why answers were left undecided: words quoted in a reason are left out, so that equal reasons are counted together. */
  undecided: Record<string, number>
  /** Words that the rules do not know, with how many answers each left undecided. */
  unknownWords: Record<string, number>
  /** Answers that were read, and judged by the provider, and of which no pair was dared. */
  readButNotDared: number
}

/** Rejections after a verdict: the answer was understood, and still no pair of it is safe. */
const NOT_DARED: ReadonlySet<Rejection> = new Set<Rejection>([
  ...([
    'no_edit_found',
    'unread',
    'wrong_sentence_kept',
    'judges_disagree',
    'blind_judge',
    'self_contradiction',
  ] as const),
  ...(['chosen_contradicts_reference', 'chosen_not_in_reference', 'rejected_agrees_with_reference'] as const),
  ...([
    'trivial_change',
    'foreign_characters',
    'broken_language',
    'implausible_edit',
    'edit_ratio',
    'pasted_reference',
  ] as const),
])

export function emptyStatistics(): PairStatistics {
  return {
    ...{ answers: 0, pairs: 0, byOrigin: { repaired: 0, counterfactual: 0 }, byCategory: {}, byRejection: {} },
    ...{
      byOriginAndCategory: { repaired: {}, counterfactual: {} },
      undecided: {},
      unknownWords: {},
      readButNotDared: 0,
    },
  }
}

/** Adds one outcome to the counts, in place. */
export function countOutcome(statistics: PairStatistics, outcome: PairOutcome): void {
  statistics.answers++
  if (outcome.pair) {
    countPair(statistics, outcome.pair)
    return
  }
  const { rejection, detail } = outcome
  add(statistics.byRejection as Record<string, number>, rejection)
  if (NOT_DARED.has(rejection)) statistics.readButNotDared++
  if (rejection !== 'undecided') return
  add(statistics.undecided, detail.replace(/"[^"]*"/g, '"…"'))
  const unknown = /"([^"]+)" is not known/.exec(detail)?.[1]
  if (unknown !== undefined) add(statistics.unknownWords, unknown)
}

function countPair(statistics: PairStatistics, pair: Pair): void {
  const origin = pair.origin as Origin
  statistics.pairs++
  statistics.byOrigin[origin]++
  for (const { category } of pair.edits) {
    add(statistics.byCategory, category)
    add(statistics.byOriginAndCategory[origin], category)
  }
}

function add(counts: Record<string, number>, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1
}
