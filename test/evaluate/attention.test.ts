import { describe, expect, it } from 'vitest'
import { attentionRatio, averageHeads, gridOf } from '../../src/evaluate/attention.js'

describe('attentionRatio', () => {
  const mask = Uint8Array.of(1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
  const map = (...values: number[]) => ({ rows: 2, columns: 2, values: Float32Array.from(values) })

  it('is 1 for uniform attention, N / |M| for all of it inside, 0 for none', () => {
    expect(attentionRatio(map(1, 1, 1, 1), mask, 4, 4)).toBeCloseTo(1, 12)
    expect(attentionRatio(map(1, 0, 0, 0), mask, 4, 4)).toBeCloseTo(4, 12)
    expect(attentionRatio(map(0, 1, 1, 1), mask, 4, 4)).toBe(0)
    expect(attentionRatio(map(1, 1, 1, 1), new Uint8Array(16), 4, 4)).toBeNaN()
  })

  it('counts a token by the part of its cell under the mask', () => {
    const pixel = Uint8Array.of(0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    expect(attentionRatio(map(1, 0, 0, 0), pixel, 4, 4)).toBeCloseTo(4, 12)
    expect(attentionRatio(map(0.5, 0.5, 0, 0), pixel, 4, 4)).toBeCloseTo(2, 12)
  })
})

describe('averageHeads', () => {
  const weights = Float32Array.from({ length: 2 * 2 * 3 }, (_, i) => i)
  const probe = { layers: 2, heads: 2, tokens: 3, weights }

  it('averages all layers, or those that are chosen', () => {
    expect([...averageHeads(probe)]).toEqual([4.5, 5.5, 6.5])
    expect([...averageHeads(probe, [1])]).toEqual([7.5, 8.5, 9.5])
  })
})

describe('gridOf', () => {
  it.each([
    [12, 12, 36, 6, 6],
    [12, 6, 18, 6, 3],
    [24, 24, 576, 24, 24],
    [1, 7, 7, 1, 7],
  ])('%d x %d patches as %d tokens', (height, width, tokens, rows, columns) => {
    expect(gridOf({ id: 'x', grid: [1, height, width], tokens })).toEqual({ rows, columns })
  })
})
