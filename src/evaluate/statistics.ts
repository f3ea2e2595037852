/** Intervals and tests for proportions. All levels are 95 %, two-sided. */

/** 97.5 % quantile of the standard normal. */
const Z = 1.959963984540054

/** A 95 % confidence interval. */
export interface Interval {
  low: number
  high: number
}

/** Successes among a count, with the Wilson interval. */
export interface Proportion extends Interval {
  successes: number
  count: number
  /** `successes / count`; NaN, like the interval, for a count of 0. */
  value: number
}

/**
 * A proportion with its Wilson score interval: Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
 *
 *     (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
 */
export function wilson(successes: number, count: number): Proportion {
  if (!(successes >= 0 && successes <= count)) throw new RangeError(`${successes} of ${count} is no proportion.`)
  if (count === 0) return { successes, count, value: Number.NaN, low: Number.NaN, high: Number.NaN }
  const p = successes / count
  const z2 = (Z * Z) / count
  const centre = (p + z2 / 2) / (1 + z2)
  const half = (Z * Math.sqrt((p * (1 - p)) / count + z2 / (4 * count))) / (1 + z2)
  // The bounds are exact at the ends; rounding would leave 1e-17 there.
  return {
    successes,
    count,
    value: p,
    low: successes === 0 ? 0 : centre - half,
    high: successes === count ? 1 : centre + half,
  }
}

/** One item judged twice: how often each of the four outcomes came. */
export interface PairedCounts {
  bothRight: number
  lost: number
  gained: number
  bothWrong: number
}

/**
 * Counts the four outcomes of items that were judged twice.
 * @throws RangeError when the two lists differ in length.
 */
export function countPaired(before: readonly boolean[], after: readonly boolean[]): PairedCounts {
  if (before.length !== after.length)
    throw new RangeError(`${before.length} outcomes cannot be paired with ${after.length}.`)
  const counts: PairedCounts = { bothRight: 0, lost: 0, gained: 0, bothWrong: 0 }
  for (const [i, was] of before.entries()) {
    if (was) counts[after[i] ? 'bothRight' : 'lost']++
    else counts[after[i] ? 'gained' : 'bothWrong']++
  }
  return counts
}

/**
 * Exact two-sided McNemar test: of the `gained + lost` items whose outcome changed, each way is equally likely under the
 * null, so p = 2 P(X <= min) with X ~ Binomial(gained + lost, 1/2), at most 1. McNemar, Psychometrika 12 (1947) 153.
 */
export function mcnemarExact({ gained, lost }: Pick<PairedCounts, 'gained' | 'lost'>): number {
  const changed = gained + lost
  // Terms are taken relative to 2^-n in logarithms: 2^-n underflows beyond a thousand items.
  let logTerm = -changed * Math.LN2
  let tail = Math.exp(logTerm)
  for (let k = 1; k <= Math.min(gained, lost); k++) {
    logTerm += Math.log((changed - k + 1) / k)
    tail += Math.exp(logTerm)
  }
  return Math.min(1, 2 * tail)
}

/**
 * Difference after - before of two paired proportions with Newcombe's hybrid score interval (method 10 of Newcombe,
 * Statistics in Medicine 17 (1998) 2635): Wilson limits of the two proportions, combined with their correlation phi.
 */
export function pairedDifference(counts: PairedCounts): Interval & { value: number } {
  const { bothRight: e, gained: f, lost: g, bothWrong: h } = counts
  const n = e + f + g + h
  if (n === 0) return { value: Number.NaN, low: Number.NaN, high: Number.NaN }
  const [after, before] = [wilson(e + f, n), wilson(e + g, n)]
  const phi = correlation(e, f, g, h, n)
  const [up1, down1] = [after.high - after.value, after.value - after.low]
  const [up2, down2] = [before.high - before.value, before.value - before.low]
  const value = after.value - before.value
  const reach = (own: number, other: number) =>
    Math.sqrt(Math.max(0, own * own - 2 * phi * own * other + other * other))
  return { value, low: value - reach(down1, up2), high: value + reach(up1, down2) }
}

/** Phi of the two-by-two table, with Newcombe's continuity correction of a positive numerator; 0 for an empty margin. */
function correlation(e: number, f: number, g: number, h: number, n: number): number {
  const margins = (e + f) * (g + h) * (e + g) * (f + h)
  if (margins === 0) return 0
  const determinant = e * h - f * g
  const numerator = determinant > n / 2 ? determinant - n / 2 : Math.min(determinant, 0)
  return numerator / Math.sqrt(margins)
}

/**
 * The same difference with an interval that allows for items of one cluster (questions about one image) to change
 * together: the cluster-robust variance of a mean, `G/(G-1) sum_g (sum_{i in g} (d_i - mean))^2 / n^2`, with the normal
 * quantile (Liang and Zeger, Biometrika 73 (1986) 13, for an intercept alone). NaN bounds for fewer than two clusters.
 *
 * @param changes after - before of each item, in {-1, 0, 1}, with the name of its cluster.
 */
export function clusteredDifference(changes: readonly { change: number; cluster: string }[]): Interval {
  const n = changes.length
  const mean = changes.reduce((sum, { change }) => sum + change, 0) / n
  const sums = new Map<string, number>()
  for (const { change, cluster } of changes) sums.set(cluster, (sums.get(cluster) ?? 0) + change - mean)
  const squares = [...sums.values()].reduce((sum, value) => sum + value * value, 0)
  const half = Z * Math.sqrt(((sums.size / (sums.size - 1)) * squares) / (n * n))
  return { low: mean - half, high: mean + half }
}
