import { describe, expect, it } from 'vitest'
import {
  clusteredMean,
  clusterSignFlip,
  countPaired,
  fisherExact,
  mcnemarExact,
  pairedDifference,
  seedTest,
  wilson,
} from '../../src/statistics/index.js'

describe('wilson', () => {
  // Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3.
  it.each([
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ])('agrees with the published interval of %d / %d', (successes, count, low, high) => {
    const interval = wilson(successes, count)
    expect(interval.low).toBeCloseTo(low, 4)
    expect(interval.high).toBeCloseTo(high, 4)
    expect(interval.value).toBe(successes / count)
  })

  it('mirrors when successes and failures change places', () => {
    expect(wilson(29, 29).high).toBe(1)
    expect(wilson(29, 29).low).toBeCloseTo(1 - wilson(0, 29).high, 12)
  })

  it('has no value without items and refuses nonsense', () => {
    expect(wilson(0, 0).value).toBeNaN()
    expect(() => wilson(3, 2)).toThrow('3 of 2')
  })
})

describe('mcnemarExact', () => {
  // 1 against 7 discordant pairs: 2 (C(8,0) + C(8,1)) / 2^8 = 18 / 256 (Fagerland et al., BMC Med. Res. Methodol. 13:91).
  it.each([
    [1, 7, 18 / 256],
    [7, 1, 18 / 256],
    [0, 0, 1],
    [5, 5, 1],
    [0, 10, 2 / 1024],
    [3, 12, (2 * (1 + 15 + 105 + 455)) / 2 ** 15],
  ])('%d gained, %d lost', (gained, lost, p) => {
    expect(mcnemarExact({ gained, lost })).toBeCloseTo(p, 12)
  })

  it('does not underflow on thousands of items', () => {
    expect(mcnemarExact({ gained: 2000, lost: 2000 })).toBe(1)
    expect(mcnemarExact({ gained: 1900, lost: 2100 })).toBeCloseTo(0.00165, 4) // Normal approximation: z = 199/sqrt(4000).
  })
})

describe('pairedDifference', () => {
  // Newcombe, Statistics in Medicine 17 (1998) 2635, method 10.
  it('agrees with a published example', () => {
    const result = pairedDifference({ bothRight: 36, gained: 12, lost: 2, bothWrong: 0 })
    expect(result.value).toBeCloseTo(0.2, 12)
    expect(result.low).toBeCloseTo(0.0569, 4)
    expect(result.high).toBeCloseTo(0.3404, 4)
  })

  it('agrees with the example of Fagerland et al., BMC Med. Res. Methodol. 13:91', () => {
    const result = pairedDifference({ bothRight: 1, gained: 1, lost: 7, bothWrong: 12 })
    expect(result.low).toBeCloseTo(-0.507, 3)
    expect(result.high).toBeCloseTo(-0.026, 3)
  })

  it('turns its sign when before and after change places', () => {
    const [a, b] = [
      pairedDifference({ bothRight: 40, gained: 20, lost: 9, bothWrong: 31 }),
      pairedDifference({ bothRight: 40, gained: 9, lost: 20, bothWrong: 31 }),
    ]
    expect(a.low).toBeCloseTo(-b.high, 12)
    expect(a.high).toBeCloseTo(-b.low, 12)
  })

  it('covers about 95 % of simulated differences', () => {
    let state = 1
    const random = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return state / 2 ** 32
    }
    const [rounds, n, gain, loss, base] = [2000, 200, 0.15, 0.05, 0.55]
    let covered = 0
    for (let i = 0; i < rounds; i++) {
      const before = Array.from({ length: n }, () => random() < base)
      const after = before.map((was) => (was ? random() >= loss / base : random() < gain / (1 - base)))
      const { low, high } = pairedDifference(countPaired(before, after))
      if (low <= gain - loss && gain - loss <= high) covered++
    }
    expect(covered / rounds).toBeGreaterThan(0.935)
    expect(covered / rounds).toBeLessThan(0.975)
  })
})

describe('countPaired', () => {
  it('fills the four cells', () => {
    expect(countPaired([true, true, false, false, false], [true, false, true, false, true])).toEqual({
      bothRight: 1,
      lost: 1,
      gained: 2,
      bothWrong: 1,
    })
    expect(() => countPaired([true], [])).toThrow('paired')
  })
})

describe('fisherExact', () => {
  it('is 1 where a margin is empty', () => {
    const of = (successes: number, count: number) => ({ successes, count })
    expect(fisherExact(of(0, 0), of(0, 0))).toBe(1)
    expect(fisherExact(of(0, 0), of(3, 5))).toBe(1)
    expect(fisherExact(of(0, 7), of(0, 9))).toBe(1)
    expect(fisherExact(of(7, 7), of(9, 9))).toBe(1)
    // 2 * C(10, 10) / C(20, 10)
    expect(fisherExact(of(10, 10), of(0, 10))).toBeCloseTo(2 / 184756, 15)
  })
})

describe('clusteredMean', () => {
  const changes = [1, 1, 0, 0, 0, 1, -1, 0, 0, 1]

  it('is the plain interval of a mean when every item is its own cluster', () => {
    const { low, high } = clusteredMean(changes.map((change, i) => ({ value: change, cluster: String(i) })))
    const mean = 0.3
    const deviation = Math.sqrt(changes.reduce((sum, d) => sum + (d - mean) ** 2, 0) / 9)
    expect((low + high) / 2).toBeCloseTo(mean, 12)
    expect((high - low) / 2).toBeCloseTo((1.959964 * deviation) / Math.sqrt(10), 6)
  })

  it('counts copies of an item as one: k-fold data in clusters has the interval of the data', () => {
    const once = clusteredMean(changes.map((change, i) => ({ value: change, cluster: String(i) })))
    const thrice = changes.flatMap((change, i) => Array(3).fill({ value: change, cluster: String(i) }))
    expect(clusteredMean(thrice).low).toBeCloseTo(once.low, 12)
  })

  it('has no bounds for one cluster', () => {
    expect(clusteredMean([{ value: 1, cluster: 'a' }]).low).toBeNaN()
  })
})

describe('the test over seeds and images', () => {
  const items = (text: string) => text.split(' ').map((each) => ({ cluster: each[0], value: Number(each[1]) }))

  // Computed with scipy from the formulas of the docstring.
  it('takes the t test over seeds where that is the larger p', () => {
    expect(seedTest([items('x1 x0 y1 z0'), items('x1 x1 y1 z0')])).toBeCloseTo(0.1256659163780024, 12)
    expect(seedTest([items('x1 y0 y0'), items('u1 v1'), items('s1 t0')])).toBeCloseTo(0.09273529127344526, 12)
  })

  it('takes the t of both levels where that one is larger, against any number', () => {
    expect(seedTest([items('x1 x0 y1 z0'), items('x1 x1 y1 z0')], 1)).toBeCloseTo(0.25978378124588797, 12)
  })

  it('takes seeds that came to the same for one', () => {
    const one = items('x1 x1 y1 z0 w1')
    expect(seedTest([one, one, one])).toBe(clusterSignFlip(one))
    expect(seedTest([one, one], 0.03)).toBeNull()
  })
})
