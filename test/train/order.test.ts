/** Which pairs a step takes, and how they are cut into what is computed at once. */
import { describe, expect, it } from 'vitest'
import type { Example } from '../../src/train/collate.js'
import { estimateRows, microBatches } from '../../src/train/micro-batches.js'
import { epochOrder, firstImage, PairOrder } from '../../src/train/order.js'
import { example } from './examples.js'

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

/** Pair i is of image i modulo `images`. */
const examples = (count: number, images: number) =>
  numbers(count).map((n) => example(`${n}`, { [`i${n % images}`]: 9 }))

const idsOf = (pairs: readonly Example[]): string[] => pairs.map(({ input }) => input.id)
const stepsOf = (order: PairOrder, from: number, to: number) => numbers(to - from).map((n) => idsOf(order.of(from + n)))

describe('epochOrder', () => {
  it('is a permutation fixed by seed and epoch', () => {
    const order = (seed: number, epoch: number) => epochOrder(numbers(100), seed, epoch)
    expect(order(42, 0).sort((a, b) => a - b)).toEqual(numbers(100))
    expect(order(42, 0)).toEqual(order(42, 0))
    expect(order(42, 0)).not.toEqual(order(42, 1))
    expect(order(42, 0)).not.toEqual(order(43, 0))
    expect(order(42, 0)).not.toEqual(order(42 + 2 ** 40, 0))
    expect(epochOrder([7], 0, 0)).toEqual([7])
  })

  it('stays what it was, since runs are resumed and compared by it', () => {
    expect(epochOrder(numbers(12), 42, 0)).toEqual([5, 8, 4, 6, 9, 2, 7, 1, 11, 0, 3, 10])
    expect(epochOrder(numbers(12), 42, 3)).toEqual([6, 8, 10, 11, 0, 9, 5, 4, 7, 2, 3, 1])
  })

  it('shuffles evenly, groups and the items of each', () => {
    const [first, firstGroup, firstOfGroup] = [new Array(5).fill(0), [0, 0], [0, 0, 0]]
    const groupOf = (item: number): string => (item < 3 ? 'three' : 'two')
    for (let seed = 0; seed < 5000; seed += 1) {
      first[epochOrder(numbers(5), seed, 0)[0]] += 1
      const order = epochOrder(numbers(5), seed, 0, groupOf)
      firstGroup[order[0] < 3 ? 0 : 1] += 1
      firstOfGroup[order.find((item) => item < 3) as number] += 1
    }
    for (const count of first) expect(Math.abs(count - 1000)).toBeLessThan(130)
    for (const count of firstGroup) expect(Math.abs(count - 2500)).toBeLessThan(160)
    for (const count of firstOfGroup) expect(Math.abs(count - 1667)).toBeLessThan(150)
  })
})

describe('PairOrder', () => {
  it.each(['random', 'image'] as const)('%s: covers each epoch once, the last step with what is left', (order) => {
    const pairs = examples(10, 3)
    const all = new PairOrder(pairs, { order, seed: 1, batchSize: 4 })
    expect(all.stepsPerEpoch).toBe(3)
    const [first, second] = [stepsOf(all, 0, 3), stepsOf(all, 3, 6)]
    for (const epoch of [first, second]) {
      expect(epoch.map((step) => step.length)).toEqual([4, 4, 2])
      expect(new Set(epoch.flat())).toEqual(new Set(idsOf(pairs)))
    }
    expect(first).not.toEqual(second)
    // Whoever goes on in the middle takes what the first process would have taken.
    const resumed = new PairOrder(pairs, { order, seed: 1, batchSize: 4 })
    expect(idsOf(resumed.of(4))).toEqual(second[1])
    expect(idsOf(resumed.of(0))).toEqual(first[0])
  })

  it('image: pairs of one image follow one another, whatever the size of a step', () => {
    const pairs = examples(60, 7)
    const ordered = (batchSize: number, seed = 3) =>
      stepsOf(new PairOrder(pairs, { order: 'image', seed, batchSize }), 0, Math.ceil(60 / batchSize)).flat()
    const order = ordered(8)
    const images = order.map((id) => Number(id) % 7)
    expect(images.filter((image, index) => image !== images[index - 1])).toHaveLength(7)
    expect(order.slice(0, 8)).not.toEqual([...order.slice(0, 8)].sort((a, b) => Number(a) - Number(b)))
    expect(ordered(5)).toEqual(order)
    expect(ordered(8, 4)).not.toEqual(order)
  })

  it('image: knows an image by its content, takes the first of several, and leaves pairs without images alone', () => {
    const [one, copy, both, none, other] = [
      example('one', { a: 9 }),
      example('copy', { a: 9 }, ['twin']),
      example('both', { a: 9, b: 5 }),
      example('none', {}),
      example('other', {}),
    ]
    expect(one.images[0].path).not.toBe(copy.images[0].path)
    expect(firstImage(copy)).toBe(firstImage(one))
    expect(firstImage(both)).toBe(firstImage(one))
    expect(firstImage(none)).not.toBe(firstImage(other))
  })
})

describe('estimateRows', () => {
  it('counts an image once for all pairs that show it in the same place, and texts for every pair and side', () => {
    const text = 3 + 2 + 1
    const one = example('1', { a: 9 })
    expect(estimateRows([one])).toBe(9 + text)
    expect(estimateRows([one, example('2', { a: 9 })])).toBe(9 + 2 * text)
    expect(estimateRows([one, example('2', { b: 9 })])).toBe(2 * (9 + text))
    // A twin is another image, shared where its bytes are.
    expect(estimateRows([example('1', { a: 9 }, ['x']), example('2', { a: 9 }, ['y'])])).toBe(9 + 9 + 9 + 4 * text)
    expect(estimateRows([example('1', { a: 9 }, ['x']), example('2', { a: 9 }, ['x'])])).toBe(9 + 9 + 4 * text)
    // Rows of b depend on what is before it.
    const views = example('3', { a: 9, b: 5 })
    expect(estimateRows([one, views])).toBe(9 + 5 + 2 * text)
    expect(estimateRows([example('4', { b: 5 }), views])).toBe(5 + 9 + 5 + 2 * text)
    expect(estimateRows([example('5', {}), example('6', {})])).toBe(2 * text)
  })
})

describe('microBatches', () => {
  const cut = (images: Record<string, number>, size: number) => {
    const pairs = Object.entries(images).flatMap(([image, count]) =>
      numbers(count).map((n) => example(`${image}${n}`, { [image]: image === 'large' ? 90 : 9 })),
    )
    const parts = microBatches(pairs, size)
    expect(parts).toHaveLength(Math.ceil(pairs.length / size))
    for (const part of parts) {
      expect(part.length).toBeLessThanOrEqual(size)
      expect(part.length).toBeGreaterThan(0)
    }
    expect(idsOf(parts.flat()).sort()).toEqual(idsOf(pairs).sort())
    return parts.map((part) => idsOf(part).map((id) => id.slice(0, -1)))
  }

  it('leaves a step that fits as it is', () => {
    const pairs = examples(8, 3)
    expect(microBatches(pairs, 8)).toEqual([pairs])
    expect(microBatches(pairs, 100)).toEqual([pairs])
  })

  it('keeps pairs of one image together', () => {
    expect(cut({ a: 3, b: 1, c: 2, d: 2 }, 4)).toEqual([
      ['a', 'a', 'a', 'b'],
      ['c', 'c', 'd', 'd'],
    ])
  })

  it('splits an image only where it must, into as few parts as can be', () => {
    expect(cut({ a: 5, b: 4 }, 4)).toEqual([['a', 'a', 'a', 'a'], ['a'], ['b', 'b', 'b', 'b']])
    const parts = cut({ a: 3, b: 3, c: 2 }, 4)
    expect(parts.map((part) => new Set(part).size)).toEqual([2, 2])
  })

  it('balances rows: a large image does not meet the others', () => {
    expect(cut({ a: 1, b: 1, large: 1, c: 1 }, 3)).toEqual([['large'], ['a', 'b', 'c']])
  })

  it('takes every size', () => {
    for (let size = 1; size < 12; size += 1) cut({ a: 4, b: 1, c: 3, d: 2, e: 1 }, size)
  })
})
