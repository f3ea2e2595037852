/** How the pairs of a step are divided among ranks. */
import { describe, expect, it } from 'vitest'
import { alone } from '../../src/ranks/ranks.js'
import type { Example } from '../../src/train/collate.js'
import { estimateRows } from '../../src/train/micro-batches.js'
import { gatherPairs, shares } from '../../src/train/share.js'
import { ranksInMemory } from '../fakes/ranks.js'
import { example } from './examples.js'

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

/** Numbers below a limit, by seed. */
function randomNumbers(seed: number): (limit: number) => number {
  let state = seed + 1
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
}

/** Pairs with answers and images of many sizes, several of one image or of none. */
function randomBatch(seed: number): Example[] {
  const below = randomNumbers(seed)
  const sizes = numbers(1 + below(8)).map(() => [1, 9, 300, 1200][below(4)])
  return numbers(1 + below(40)).map((index) => {
    const image = below(sizes.length)
    const text = [2, 40, 900][below(3)]
    return example(`${index}`, below(10) === 0 ? {} : { [`i${image}`]: sizes[image] }, undefined, text)
  })
}

const rowsOf = (split: Example[][]): number[] => split.map(estimateRows)
const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0)

describe('shares', () => {
  it('have every pair once, in its order, and are the same each time, whatever the step', () => {
    for (const seed of numbers(300)) {
      const batch = randomBatch(seed)
      for (const ranks of [1, 2, 3, 4, 8]) {
        const split = shares(batch, ranks)
        expect(split).toHaveLength(ranks)
        expect(new Set(split.flat()).size).toBe(batch.length)
        expect(split.flat()).toHaveLength(batch.length)
        for (const share of split) expect(share).toEqual(batch.filter((pair) => share.includes(pair)))
        expect(shares([...batch], ranks)).toEqual(split)
      }
    }
  })

  it('are balanced: at most a tenth above the mean, or one pair above the mean of pairs alone', () => {
    for (const seed of numbers(500)) {
      const batch = randomBatch(seed)
      const singly = batch.map((pair) => estimateRows([pair]))
      for (const ranks of [2, 3, 4, 8]) {
        const bound = Math.max((1.1 * estimateRows(batch)) / ranks, sum(singly) / ranks + Math.max(...singly))
        expect(Math.max(...rowsOf(shares(batch, ranks)))).toBeLessThanOrEqual(bound)
      }
    }
  })

  it('of thousands of pairs of one image are found soon', () => {
    const batch = numbers(4000).map((index) => example(`${index}`, { image: 500 }))
    const started = performance.now()
    expect(shares(batch, 8).map(({ length }) => length)).toEqual(new Array(8).fill(500))
    // Some milliseconds; a look at every number of pairs took ten seconds.
    expect(performance.now() - started).toBeLessThan(1000)
  })

  it('keep the pairs of an image together where that costs no balance, and part them where it does', () => {
    const four = numbers(8).map((index) => example(`${index}`, { [`i${index % 4}`]: 100 }))
    for (const share of shares(four, 2)) {
      expect(new Set(share.map(({ input }) => input.images[0])).size).toBe(2)
      expect(share).toHaveLength(4)
    }
    const one = numbers(8).map((index) => example(`${index}`, { same: 100 }, undefined, 200))
    expect(shares(one, 2).map(({ length }) => length)).toEqual([4, 4])
  })

  it('are empty for some where there are fewer pairs than ranks, never for rank 0', () => {
    const split = shares([example('a', { a: 4 }), example('b', { b: 90 })], 4)
    expect(split.map(({ length }) => length)).toEqual([1, 1, 0, 0])
  })
})

describe('gatherPairs', () => {
  const batch = randomBatch(7)
  const stats = (pair: Example) =>
    ({ loss: Number(pair.input.id), margin: Number.NaN, kl: Number.POSITIVE_INFINITY }) as never

  it('brings what the ranks computed into the order of the pairs, NaN and infinities included', async () => {
    const split = shares(batch, 3)
    const own = (rank: number) => ({ pairs: split[rank].map(stats), tokens: rank + 1 })
    const told = await Promise.all(
      ranksInMemory(3).map((ranks, rank) => gatherPairs(ranks, 'a step', batch, split, own(rank))),
    )
    for (const whole of told) expect(whole).toEqual({ pairs: batch.map(stats), tokens: 6 })
  })

  it('changes nothing of what one rank computed', async () => {
    const own = { pairs: batch.map(stats), tokens: 6 }
    expect(await gatherPairs(alone, 'a step', batch, shares(batch, 1), own)).toEqual(own)
  })

  it('gives nothing to anybody where one rank gave up', async () => {
    const split = shares(batch, 2)
    const own = { pairs: split[0].map(stats), tokens: 1 }
    const told = await Promise.all(
      ranksInMemory(2).map((ranks, rank) => gatherPairs(ranks, 'a step', batch, split, rank === 0 ? own : null)),
    )
    expect(told).toEqual([null, null])
  })
})
