/** Arms held against each other: per seed on the same questions, then over the seeds. */
import type { Resolution } from '../evaluate/index.js'
import {
  type ClusteredItem,
  countClusters,
  fewestClusters,
  type Interval,
  meanOfItems,
  seedBootstrap,
  seedTest,
} from '../statistics/index.js'
import { itemsOf, type MeasuredItem } from './metrics.js'
import type { RunNumbers } from './numbers.js'
import type { Comparison } from './settings.js'

/** `missing`: a seed of one of the arms is not there, so nothing is averaged. `other_questions`: the arms did not answer the same. */
export type StudyConclusion = Resolution | 'missing' | 'other_questions'

/** One arm against another, by one metric. */
export interface ComparedArms extends Comparison {
  /** Difference of the means, as a share, of the seeds that both arms have. */
  seeds: { seed: number; difference: number; count: number }[]
  /** Mean over all seeds with its two-stage interval; null where a seed is missing, or images are too few for an interval. */
  difference: (Interval & { value: number }) | null
  /** Of `seedTest`: seeds and images both. */
  p: number | null
  /** The larger p against ± margin, which tells equivalence; null for one seed. */
  marginP: number | null
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
    return after?.length && before?.length ? [{ seed, items: differences(before, after) }] : []
  })
  const known = pairs.flatMap(({ seed, items }) => (items ? [{ seed, items }] : []))
  const each = known.map(({ seed, items }) => ({ seed, difference: meanOfItems(items), count: items.length }))
  const empty = { ...comparison, seeds: each, difference: null, p: null, marginP: null, holm: null }
  if (known.length < pairs.length) return { ...empty, conclusion: 'other_questions' }
  if (pairs.length < seeds.length) return { ...empty, conclusion: 'missing' }
  const items = known.map((seed) => seed.items)
  if (items.some((own) => countClusters(own) < fewestClusters)) return { ...empty, conclusion: 'not_resolved' }
  const { low, high } = seedBootstrap(items, { draws })
  const value = meanOfItems(each.map(({ difference }) => ({ value: difference })))
  const against = [seedTest(items, margin), seedTest(items, -margin)].filter((p) => p !== null)
  const marginP = against.length > 0 ? Math.max(...against) : null
  const compared = { ...empty, difference: { value, low, high }, p: seedTest(items), marginP }
  return { ...compared, conclusion: small ? 'not_resolved' : conclude(compared, margin) }
}

/**
 * What may be said, by the adjusted p where there is one. A gain or a loss needs the test and an interval without 0; equivalence an
 * interval within the margin, and the test against both ends of it: of few seeds the interval alone is too narrow.
 */
export function conclude(
  { difference, p, marginP, holm }: Pick<ComparedArms, 'difference' | 'p' | 'marginP' | 'holm'>,
  margin: number,
): Resolution {
  if (!difference || p === null) return 'not_resolved'
  const { low, high } = difference
  if ((holm ?? p) < 0.05 && (low > 0 || high < 0)) return low > 0 ? 'gain' : 'loss'
  return low > -margin && high < margin && (marginP ?? 0) < 0.05 ? 'equivalent' : 'not_resolved'
}

/** Null where the arms answered other questions, or saw other images. */
function differences(before: readonly MeasuredItem[], after: readonly MeasuredItem[]): ClusteredItem[] | null {
  const isSame = ({ id, cluster }: MeasuredItem, i: number) => id === after[i].id && cluster === after[i].cluster
  if (before.length !== after.length || !before.every(isSame)) return null
  return before.map(({ cluster, value }, i) => ({ cluster, value: after[i].value - value }))
}
