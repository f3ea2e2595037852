import { describe, expect, it } from 'vitest'
import { baselines, compare, type Limits, ratios, type Series, spread, summarize } from '../../src/bench/summary.js'

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
    const { 'peer-plain': rows, ...others } = ratios(all, baselines)
    expect(rows[0]).toEqual({ variant: 'ours-packed', speed: { min: 2, median: 4, max: 6 }, memory: 0.25 })
    expect(rows[1]).toEqual({ variant: 'peer-plain', speed: { min: 1, median: 1, max: 1 }, memory: 1 })
    expect(others).toEqual({})
  })

  it('prefers the plain peer as the baseline', () => {
    const all = ['ours-plain', 'peer-lean', 'peer-plain'].map((name) => series(name, [1]))
    expect(Object.keys(ratios(all, baselines))).toEqual(['peer-plain', 'peer-lean', 'ours-plain'])
  })
})

describe('agreement', () => {
  const limits: Limits = { loss: { absolute: 1e-5 }, grad_norm: { relative: 1e-3 } }

  it.each([
    [{ loss: 0.700009, grad_norm: 2.001 }, true],
    [{ loss: 0.70002 }, false],
    [{ grad_norm: 2.003 }, false],
    [{ loss: Number.NaN }, false],
    [{ grad_norm: Number.NaN }, false],
  ] as const)('%j', (change, agrees) => {
    const found = compare([series('ours-packed', [1], change), series('ours-plain', [1])], limits, false)
    expect(found).toMatchObject({ reference: 'ours-plain', steps: 1, agrees })
    expect(found.rows.map((row) => row.agrees)).toEqual([agrees, true])
  })

  it('of every step is that of the worst', () => {
    const all = [series('ours-packed', [1, 1, 1]), series('trl', [1, 1, 1])]
    all[0].samples[1].loss += 1e-3
    expect(compare(all, limits, false).agrees).toBe(true)
    const found = compare(all, limits, true)
    expect(found).toMatchObject({ reference: 'trl', steps: 4, agrees: false })
    expect(found.rows[0].differences.loss).toBeCloseTo(1e-3)
    expect(found.rows[0].differences.grad_norm).toBe(0)
  })

  it('does not pass when the reference itself is not a number, or has none', () => {
    const all = [series('ours-packed', [1]), series('ours-plain', [1], { loss: Number.NaN })]
    expect(compare(all, limits, false).agrees).toBe(false)
    const same = [series('ours-packed', [1]), series('ours-plain', [1])]
    expect(compare(same, { ...limits, 'rewards/margins': { absolute: 1 } }, false).agrees).toBe(false)
  })
})
