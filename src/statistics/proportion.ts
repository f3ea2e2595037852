/** Intervals of proportions. All levels are 95 %, two-sided. */
import { hypergeometric } from './binomial.js'

/** 97.5 % quantile of the standard normal. */
export const Z = 1.959963984540054

/** A 95 % confidence interval. */
export interface Interval {
  low: number
  high: number
}

/** Successes among a count, with the Wilson interval. */
export interface Proportion extends Interval {
  successes: number
  count: number
  /** `successes / count`; NaN, like the interval, for a count of 0, which JSON writes as null. */
  value: number
}

/**
 * A proportion with its Wilson score interval: Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
 *
 *     (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
 *
 * @throws RangeError unless `0 <= successes <= count`.
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

/**
 * Fisher's exact test of two proportions of different items, two-sided: the probability, with all margins fixed, of a table that
 * is no more likely than the one seen. Fisher, J. Royal Stat. Soc. 85 (1922) 87.
 *
 * @returns p; 1 when a margin is empty.
 */
export function fisherExact(a: { successes: number; count: number }, b: { successes: number; count: number }): number {
  const successes = a.successes + b.successes
  const count = a.count + b.count
  if (a.count === 0 || b.count === 0 || successes === 0 || successes === count) return 1
  const chance = (k: number): number => hypergeometric(k, successes, a.count, b.count)
  const seen = chance(a.successes)
  let p = 0
  for (let k = Math.max(0, successes - b.count); k <= Math.min(a.count, successes); k++) {
    // Tables of equal probability differ by rounding.
    if (chance(k) <= seen * (1 + 1e-7)) p += chance(k)
  }
  return Math.min(1, p)
}
