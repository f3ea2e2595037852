/** Two systems on the same items: tests and intervals of their difference, and what difference a set of items can show. */
import { binomial } from './binomial.js'
import { type Interval, wilson } from './proportion.js'

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
export function mcnemarExact({ gained, lost }: Changes): number {
  return Math.min(1, 2 * lowerTail(gained + lost, Math.min(gained, lost)))
}

/**
 * Mid-p McNemar test: half of the observed outcome's probability counts, which takes back most of the exact test's caution;
 * its level can exceed the nominal one slightly. Fagerland, Lydersen and Laake, BMC Med. Res. Methodol. 13 (2013) 91.
 */
export function mcnemarMidP({ gained, lost }: Changes): number {
  const [changed, fewer] = [gained + lost, Math.min(gained, lost)]
  if (gained === lost) return 1
  return 2 * lowerTail(changed, fewer) - binomial(changed, fewer, 0.5)
}

type Changes = Pick<PairedCounts, 'gained' | 'lost'>

/** P(X <= k), X ~ Binomial(n, 1/2). */
function lowerTail(n: number, k: number): number {
  let tail = 0
  for (let i = 0; i <= k; i++) tail += binomial(n, i, 0.5)
  return tail
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
 * Power of the exact McNemar test at 5 %: the number of items whose outcome changes is drawn too.
 *
 * @param n items.
 * @param discordant share of items whose outcome changes, in [0, 1].
 * @param difference true difference of the two proportions, in [0, discordant].
 */
export function mcnemarPower(n: number, discordant: number, difference: number): number {
  const gain = (1 + difference / discordant) / 2
  let power = 0
  for (let changed = 0; changed <= n; changed++) {
    const weight = binomial(n, changed, discordant)
    if (weight < 1e-15) continue
    const limit = rejectionLimit(changed)
    for (let fewer = 0; fewer <= limit; fewer++) {
      power += weight * (binomial(changed, fewer, gain) + binomial(changed, changed - fewer, gain))
    }
  }
  return power
}

const limits: number[] = []

/** The largest smaller count with which the exact test is below 5 %; -1 where there is none. */
function rejectionLimit(changed: number): number {
  for (let n = limits.length; n <= changed; n++) {
    // One more item moves the limit by one at most.
    const last = limits[n - 1] ?? -1
    limits.push(mcnemarExact({ gained: n - last - 1, lost: last + 1 }) <= 0.05 ? last + 1 : last)
  }
  return limits[changed]
}

/**
 * The smallest true difference that the exact McNemar test finds with 80 % power at 5 %, to 1e-6. What is smaller, `n` items can
 * hardly show, whoever counts them.
 *
 * @returns undefined when even a difference as large as `discordant` is not found.
 */
export function minimalDetectable(n: number, discordant: number): number | undefined {
  let [below, found] = [0, discordant]
  if (mcnemarPower(n, discordant, found) < 0.8) return undefined
  while (found - below > 1e-6) {
    const middle = (below + found) / 2
    if (mcnemarPower(n, discordant, middle) < 0.8) below = middle
    else found = middle
  }
  return found
}
