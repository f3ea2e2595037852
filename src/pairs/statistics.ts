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
  byRejection: Partial<Record<Rejection, number>>
}

export function emptyStatistics(): PairStatistics {
  return { answers: 0, pairs: 0, byOrigin: { repaired: 0, counterfactual: 0 }, byCategory: {}, byRejection: {} }
}

/** Adds one outcome to the counts, in place. */
export function countOutcome(statistics: PairStatistics, outcome: PairOutcome): void {
  statistics.answers++
  if (outcome.pair) countPair(statistics, outcome.pair)
  else statistics.byRejection[outcome.rejection] = (statistics.byRejection[outcome.rejection] ?? 0) + 1
}

function countPair(statistics: PairStatistics, pair: Pair): void {
  statistics.pairs++
  statistics.byOrigin[pair.origin as Origin]++
  for (const { category } of pair.edits) {
    statistics.byCategory[category] = (statistics.byCategory[category] ?? 0) + 1
  }
}
