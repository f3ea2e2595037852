import { describe, expect, it } from 'vitest'
import { compare, ratios, type Series, spread, summarize } from '../../src/bench/summary.js'

function series(variant: string, seconds: number[], change: Partial<Series['warmUp']> = {}): Series {
  const base = { step: 1, seconds: 100, loss: 0.7, grad_norm: 2, tokens: 10, peak_rss: 1000, ...change }
  const samples = seconds.map((value, index) => ({ ...base, step: index + 2, seconds: value }))
  return { variant, ready: { ready: true, variant, dtype: 'f32' }, warmUp: base, samples }
}

describe('summaries', () => {
  it.each([
    [[3], { min: 3, median: 3, max: 3 }],
    [[4, 1], { min: 1, median: 2.5, max: 4 }],
    [[10, 2, 9], { min: 2, median: 9, max: 10 }],
  ])('spreads %j', (values, expected) => {
    expect(spread(values)).toEqual(expected)
  })

  it('times without the warm-up, and takes the peak with it', () => {
    const one = series('ours-plain', [2, 4])
    one.warmUp.peak_rss = 2000
    const expected = { variant: 'ours-plain', seconds: { min: 2, median: 3, max: 4 }, tokens: 10, peakBytes: 2000 }
    expect(summarize(one)).toEqual(expected)
  })

  it('takes ratios within a round', () => {
    const all = [series('ours-packed', [1, 4], { peak_rss: 250 }), series('peer-plain', [6, 8])]
    const { 'peer-plain': rows, ...others } = ratios(all)
    expect(rows[0]).toEqual({ variant: 'ours-packed', speed: { min: 2, median: 4, max: 6 }, memory: 0.25 })
    expect(rows[1]).toEqual({ variant: 'peer-plain', speed: { min: 1, median: 1, max: 1 }, memory: 1 })
    expect(others).toEqual({})
  })

  it('prefers the plain peer as the baseline', () => {
    const all = ['ours-plain', 'peer-lean', 'peer-plain'].map((name) => series(name, [1]))
    expect(Object.keys(ratios(all))).toEqual(['peer-plain', 'peer-lean', 'ours-plain'])
  })
})

describe('agreement', () => {
  it.each([
    ['f32', { loss: 0.700009, grad_norm: 2.001 }, true],
    ['f32', { loss: 0.70002 }, false],
    ['f32', { grad_norm: 2.003 }, false],
    ['bf16', { loss: 0.715, grad_norm: 2.05 }, true],
    ['bf16', { loss: 0.73 }, false],
    ['f32', { loss: Number.NaN }, false],
    ['f32', { grad_norm: Number.NaN }, false],
  ] as const)('%s: %j', (dtype, change, agrees) => {
    const found = compare([series('ours-packed', [1], change), series('ours-plain', [1])], dtype)
    expect(found.reference).toBe('ours-plain')
    expect(found.rows.map((row) => row.agrees)).toEqual([agrees, true])
    expect(found.agrees).toBe(agrees)
  })

  it('does not pass when the reference itself is not a number', () => {
    const all = [series('ours-packed', [1]), series('ours-plain', [1], { loss: Number.NaN })]
    expect(compare(all, 'f32').agrees).toBe(false)
  })
})
