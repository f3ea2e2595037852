import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { type Box, cornersOf, touchedTokens } from '../../src/evaluate/grounding/boxes.js'
import { groundingConventions, groundingMetrics } from '../../src/evaluate/grounding/metrics.js'

interface Layer {
  question: number[][]
  general: number[][]
}
interface Case {
  name: string
  grid: { rows: number; columns: number }
  layers: Layer[]
  boxes: Box[]
  format: 'xywh' | 'xyxy'
  image: { width: number; height: number }
  padded?: { side: number; offset: [number, number]; tokens: number[] }
  tokens: number[]
  expected: {
    refuse: string | null
    anyOverlap: Record<string, Record<string, number | 'inf'>>
    paddedAnyOverlap?: { exact: Record<string, number> }
  }[]
}
const cases: Case[] = JSON.parse(readFileSync(new URL('golden/grounding.json', import.meta.url), 'utf8')).cases

const weights = (rows: number[][]) => ({ heads: rows.length, weights: rows.flat() })
const marked = (region: Float64Array): number[] => [...region.keys()].filter((token) => region[token] === 1)

function near(found: object, expected: Record<string, number | 'inf'>): void {
  for (const [name, value] of Object.entries(expected)) {
    const own = (found as Record<string, number>)[name]
    if (value === 'inf') expect(own).toBe(Number.POSITIVE_INFINITY)
    // Sums of a few dozen float64 terms.
    else expect(Math.abs(own - value), name).toBeLessThan(1e-12 * Math.max(1, Math.abs(value)))
  }
}

describe.each(cases)('$name', ({ grid, layers, boxes, format, image, padded, tokens, expected }) => {
  const corners = format === 'xywh' ? boxes.map(cornersOf) : boxes
  const region = touchedTokens(corners, { left: 0, top: 0, ...image }, grid)

  it('marks the tokens', () => expect(marked(region)).toEqual(tokens))

  it.each(groundingConventions)('has the numbers of %s', (convention) => {
    for (const [i, { question, general }] of layers.entries()) {
      const { refuse, anyOverlap } = expected[i]
      const measure = () => groundingMetrics(weights(question), weights(general), region, convention)
      const values = anyOverlap[convention]
      if (values) near(measure(), values)
      else expect(measure, refuse ?? '').toThrow()
    }
  })

  it.runIf(padded)('follows the padding', () => {
    const { side, offset, tokens } = padded as Required<Case>['padded']
    const frame = { left: -offset[0], top: -offset[1], width: side, height: side }
    const inside = touchedTokens(corners, frame, grid)
    expect(marked(inside)).toEqual(tokens)
    const { question, general } = layers[0]
    near(groundingMetrics(weights(question), weights(general), inside), expected[0].paddedAnyOverlap?.exact ?? {})
  })
})

describe('what is no attention', () => {
  it('is refused', () => {
    const one = { heads: 1, weights: [0.5, 0.5] }
    expect(() => groundingMetrics({ heads: 1, weights: [Number.NaN, 1] }, one, [1, 0])).toThrow('not a number')
    expect(() => groundingMetrics({ heads: 2, weights: [1, 1] }, one, [1, 0])).toThrow('2 heads and 2 tokens')
  })
})
