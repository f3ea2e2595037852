import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { philox4x32 } from '../../src/random/philox.js'
import {
  agreementOf,
  benjaminiHochberg,
  type ClusteredItem,
  clusterBootstrap,
  clusteredMean,
  clusterSignFlip,
  correctedShare,
  fisherExact,
  holm,
  mcnemarExact,
  mcnemarMidP,
  mcnemarPower,
  minimalDetectable,
  pairedDifference,
  passAtK,
  roganGladen,
  wilson,
} from '../../src/statistics/index.js'

/** Made with scipy, statsmodels and exact enumeration; see README.md. */
// biome-ignore lint/suspicious/noExplicitAny: rows of several shapes, each named by the test that reads it.
const golden: Record<string, any[]> = JSON.parse(readFileSync(new URL('golden.json', import.meta.url), 'utf8'))

// Sums of at most a thousand float64 terms: the rounding stays below 1e-12.
const digits = 12

// biome-ignore lint/suspicious/noExplicitAny: as above.
const clustered: any[] = golden.clustered.map(({ items, ...expected }) => ({
  ...expected,
  items: items.map(
    ({ cluster, before, after }: { cluster: string; before: number; after: number }): ClusteredItem => ({
      cluster,
      value: after - before,
    }),
  ),
}))

describe('values of scipy and statsmodels', () => {
  it.each(golden.wilson)('wilson $successes of $count', ({ successes, count, low, high }) => {
    const found = wilson(successes, count)
    expect(found.low).toBeCloseTo(low, digits)
    expect(found.high).toBeCloseTo(high, digits)
  })

  it.each(golden.mcnemar)('mcnemar $gained to $lost', ({ gained, lost, exact, midP }) => {
    expect(mcnemarExact({ gained, lost })).toBeCloseTo(exact, digits)
    expect(mcnemarMidP({ gained, lost })).toBeCloseTo(midP, digits)
  })

  it.each(golden.newcombePaired)('newcombe $bothRight $gained $lost $bothWrong', (each) => {
    const found = pairedDifference(each)
    expect(found.value).toBeCloseTo(each.difference, digits)
    expect(found.low).toBeCloseTo(each.low, digits)
    expect(found.high).toBeCloseTo(each.high, digits)
  })

  it.each(golden.kappa)('agreement of $table', ({ table, ...expected }) => {
    const found = agreementOf(table)
    for (const [name, value] of Object.entries(expected)) {
      const own = found[name as keyof typeof found]
      if (value === null) expect(own === null || Number.isNaN(own), name).toBe(true)
      else expect(own, name).toBeCloseTo(value as number, digits)
    }
  })

  it.each(golden.multiple)('holm and benjamini-hochberg of $p', (each) => {
    for (const [i, value] of holm(each.p).entries()) expect(value).toBeCloseTo(each.holm[i], digits)
    for (const [i, value] of benjaminiHochberg(each.p).entries()) {
      expect(value).toBeCloseTo(each.benjaminiHochberg[i], digits)
    }
  })

  it.each(golden.passAtK)('pass@$k of $correct in $samples', (each) => {
    expect(passAtK(each.samples, each.correct, each.k)).toBeCloseTo(each.passAtK, digits)
  })

  it.each(golden.power)('power with $n items, $discordant, $difference', (each) => {
    // The golden leaves out the binomial's far tails: it is lower by up to 1e-8.
    expect(mcnemarPower(each.n, each.discordant, each.difference)).toBeCloseTo(each.power, 7)
  })

  it.each(golden.minimalDetectable)('detectable on $n items at $discordant', ({ n, discordant, detectable }) => {
    // The golden is rounded to four digits.
    expect(Math.abs((minimalDetectable(n, discordant) as number) - detectable)).toBeLessThanOrEqual(5.1e-5)
  })
})

describe.each(clustered)('clusters: $name', ({ items, ...expected }) => {
  it('has the robust error, interval and design effect', () => {
    const found = clusteredMean(items)
    expect(found.value).toBeCloseTo(expected.difference, digits)
    expect(found.standardError).toBeCloseTo(expected.standardError.clusterRobust, digits)
    expect(found.designEffect).toBeCloseTo(expected.designEffect, digits)
    expect(found.low).toBeCloseTo(expected.normalInterval[0], digits)
    expect(found.high).toBeCloseTo(expected.normalInterval[1], digits)
  })

  it('draws what enumeration of all resamples gives', () => {
    const draws = 20_000
    const found = clusterBootstrap(items, { seed: 5, draws })
    const { mean, standardDeviation, percentile } = expected.clusterBootstrap
    // Four standard errors of a mean of so many draws.
    expect(Math.abs(found.mean - mean)).toBeLessThan((4 * standardDeviation) / Math.sqrt(draws))
    expect(found.standardDeviation).toBeCloseTo(standardDeviation, 2)
    // The distribution is discrete: a quantile may fall on the neighbouring value.
    expect(Math.abs(found.low - percentile[0])).toBeLessThan(0.1)
    expect(Math.abs(found.high - percentile[1])).toBeLessThan(0.1)
  })

  it('flips signs exactly', () => {
    expect(clusterSignFlip(items)).toBeCloseTo(expected.signFlip.p, digits)
  })
})

describe('closed forms', () => {
  it('fisher: the tea taster, and equal shares', () => {
    expect(fisherExact({ successes: 3, count: 4 }, { successes: 1, count: 4 })).toBeCloseTo(34 / 70, digits)
    expect(fisherExact({ successes: 5, count: 10 }, { successes: 50, count: 100 })).toBeCloseTo(1, 9)
    expect(fisherExact({ successes: 0, count: 0 }, { successes: 3, count: 9 })).toBe(1)
  })

  it('rogan and gladen give back what a judge of known errors was shown', () => {
    const [truth, sensitivity, specificity] = [0.7, 0.9, 0.8]
    const reported = truth * sensitivity + (1 - truth) * (1 - specificity)
    expect(roganGladen(reported, sensitivity, specificity)).toBeCloseTo(truth, digits)
    expect(roganGladen(0.5, 0.5, 0.5)).toBeNaN()
  })

  it('the interval of a corrected share is that of its formula', () => {
    const of = (successes: number, count: number) => ({ successes, count })
    // p 60 of 100, s 45 of 50, c 40 of 50: (.6 + .8 - 1) / .7.
    const found = correctedShare(of(60, 100), of(45, 50), of(40, 50)) ?? expect.fail('none')
    expect(found.value).toBeCloseTo(0.4 / 0.7, digits)
    // With pseudo-items: p 61.920729 / 103.841459 = .596301, s 46 / 52 = .884615, c 41 / 52 = .788462, θ .384762 / .673077 = .571647;
    // variances .00231821, .00196290, .00320750; shift 2z² (.00112209 - .00137394) = -.001935;
    // half z sqrt(.00231821 + .00064144 + .00058853) / .673077 = .173455.
    expect(found.low).toBeCloseTo(0.571647 - 0.001935 - 0.173455, 5)
    expect(found.high).toBeCloseTo(0.571647 - 0.001935 + 0.173455, 5)
    expect(correctedShare(of(6, 10), of(0, 0), of(3, 4))).toBeNull()
    expect(correctedShare(of(6, 10), of(1, 2), of(1, 2))).toBeNull()
    expect(correctedShare(of(10, 10), of(19, 20), of(20, 20))).toMatchObject({ value: 1, high: 1 })
  })

  it('the interval of a corrected share holds the truth about as often as it says', () => {
    const [truth, sensitivity, specificity] = [0.7, 0.92, 0.85]
    let word = 0
    const chance = () => philox4x32([word++, 0, 0, 0], [11, 0])[0] / 0x100000000
    const drawn = (share: number, count: number) => {
      let successes = 0
      for (let i = 0; i < count; i++) successes += Number(chance() < share)
      return { successes, count }
    }
    const rounds = 1000
    let held = 0
    for (let round = 0; round < rounds; round++) {
      const reported = drawn(truth * sensitivity + (1 - truth) * (1 - specificity), 150)
      const found = correctedShare(reported, drawn(sensitivity, 40), drawn(specificity, 25))
      held += Number(found !== null && found.low <= truth && truth <= found.high)
    }
    // The standard error of a share of .95 over a thousand rounds is .007.
    expect(held / rounds).toBeGreaterThan(0.93)
    expect(held / rounds).toBeLessThan(0.98)
  })

  it('power is the level where there is no difference, at most', () => {
    expect(mcnemarPower(400, 0.2, 0)).toBeLessThanOrEqual(0.1)
    expect(minimalDetectable(10, 0.1)).toBeUndefined()
  })
})

describe('sign flips of many clusters', () => {
  const items = (effect: number): ClusteredItem[] =>
    Array.from({ length: 60 }, (_, i) => ({ cluster: `${i >> 1}`, value: ((i >> 1) % 2 === 0 ? 1 : -1) + effect }))

  it('finds nothing where signs balance, and the smallest p where all agree', () => {
    expect(clusterSignFlip(items(0), { draws: 2000 })).toBe(1)
    expect(clusterSignFlip(items(5), { draws: 2000 })).toBeCloseTo(1 / 2001, 9)
  })

  it('depends on the seed alone', () => {
    const [a, b] = [clusterSignFlip(items(0.2), { seed: 3 }), clusterSignFlip(items(0.2), { seed: 3 })]
    expect(a).toBe(b)
    expect(clusterSignFlip(items(0.2), { seed: 4 })).not.toBe(a)
  })
})

/** Differences of 40 images of 6 questions whose values correlate by 0.3 within an image, with true mean 0.1. */
function simulate(round: number): ClusteredItem[] {
  let state = round * 7919 + 1
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
  return Array.from({ length: 40 }, (_, image) => {
    const shared = Math.sqrt(0.3) * normal()
    return Array.from({ length: 6 }, () => ({ cluster: `${image}`, value: 0.1 + shared + Math.sqrt(0.7) * normal() }))
  }).flat()
}

describe('coverage by simulation', () => {
  it('is 93 to 97 % for the cluster bootstrap, below 90 % for independent items', () => {
    const rounds = 400
    let [covered, naive] = [0, 0]
    for (let round = 0; round < rounds; round++) {
      const items = simulate(round)
      const { low, high } = clusterBootstrap(items, { seed: round, draws: 400 })
      if (low <= 0.1 && 0.1 <= high) covered++
      const each = clusteredMean(items.map(({ value }, i) => ({ cluster: `${i}`, value })))
      if (each.low <= 0.1 && 0.1 <= each.high) naive++
    }
    // Two standard errors of a share of 400 rounds are 2.2 points.
    expect(covered / rounds).toBeGreaterThan(0.91)
    expect(covered / rounds).toBeLessThan(0.98)
    expect(naive / rounds).toBeLessThan(0.9)
  })
})
