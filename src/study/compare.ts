/** Arms held against each other: per seed on the same questions, then over the seeds. */
import type { Resolution } from '../evaluate/index.js'
import {
  type ClusteredItem,
  clusterSignFlip,
  countClusters,
  fewestClusters,
  type Interval,
  meanTest,
  seedBootstrap,
} from '../statistics/index.js'
import { itemsOf, type MeasuredItem } from './metrics.js'
import type { RunNumbers } from './numbers.js'
import type { Comparison } from './settings.js'

/** `missing`: a seed of one of the arms is not there, so nothing is averaged. */
export type StudyConclusion = Resolution | 'missing'

/** One arm against another, by one metric. */
export interface ComparedArms extends Comparison {
  /** Difference of the means, as a share, of the seeds that both arms have. */
  seeds: { seed: number; difference: number; count: number }[]
  /** Mean over all seeds with its two-stage interval; null where a seed is missing, or images are too few for an interval. */
  difference: (Interval & { value: number }) | null
  /** Paired t test over the seeds; with one seed the sign-flip test over its images. */
  p: number | null
  /** Adjusted over the arms of the table; null for the primary comparison, which is one test. */
  holm: number | null
  conclusion: StudyConclusion
}

export interface CompareOptions {
  seeds: readonly number[]
  margin: number
  draws: number
  /** Too small to conclude anything, so nothing is. */
  small: boolean
}

/** @param runs of both arms, in any order. */
export function compareArms(
  comparison: Comparison,
  runs: readonly RunNumbers[],
  { seeds, margin, draws, small }: CompareOptions,
): ComparedArms {
  const { arm, baseline, metric } = comparison
  const of = (name: string, seed: number) => {
    const run = runs.find((each) => each.arm === name && each.seed === seed)
    return run ? itemsOf(run, metric) : null
  }
  const pairs = seeds.flatMap((seed) => {
    const [after, before] = [of(arm, seed), of(baseline, seed)]
    const items = after && before ? differences(before, after) : null
    return items && items.length > 0 ? [{ seed, items }] : []
  })
  const each = pairs.map(({ seed, items }) => ({ seed, difference: meanOf(items), count: items.length }))
  const empty = { ...comparison, seeds: each, difference: null, p: null, holm: null }
  if (pairs.length < seeds.length) return { ...empty, conclusion: 'missing' }
  if (pairs.some(({ items }) => countClusters(items) < fewestClusters)) return { ...empty, conclusion: 'not_resolved' }
  const { low, high } = seedBootstrap(
    pairs.map(({ items }) => items),
    { draws },
  )
  const value = meanOf(each.map(({ difference }) => ({ value: difference })))
  const p = pairs.length === 1 ? clusterSignFlip(pairs[0].items) : meanTest(each.map(({ difference }) => difference)).p
  const compared = { ...empty, difference: { value, low, high }, p }
  return { ...compared, conclusion: small ? 'not_resolved' : conclude(compared, margin) }
}

/**
 * What may be said, by the adjusted p where there is one. A gain or a loss needs both the test and the interval: the test knows
 * how much seeds differ, the interval how much images do.
 */
export function conclude(
  { difference, p, holm }: Pick<ComparedArms, 'difference' | 'p' | 'holm'>,
  margin: number,
): Resolution {
  if (!difference || p === null) return 'not_resolved'
  const { low, high } = difference
  if ((holm ?? p) < 0.05 && (low > 0 || high < 0)) return low > 0 ? 'gain' : 'loss'
  return low > -margin && high < margin ? 'equivalent' : 'not_resolved'
}

/** Null where the arms answered other questions. */
function differences(before: readonly MeasuredItem[], after: readonly MeasuredItem[]): ClusteredItem[] | null {
  if (before.length !== after.length || before.some(({ id }, i) => id !== after[i].id)) return null
  return before.map(({ cluster, value }, i) => ({ cluster, value: after[i].value - value }))
}

const meanOf = (items: readonly { value: number }[]): number =>
  items.reduce((sum, { value }) => sum + value, 0) / items.length
