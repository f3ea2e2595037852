import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { type Diversity, diversityOf } from '../../src/evaluate/diversity.js'

interface Case {
  name: string
  answers: string[]
  expected: Diversity
}
const cases: Case[] = JSON.parse(readFileSync(new URL('golden/extras.json', import.meta.url), 'utf8')).diversity

describe('diversity of answers', () => {
  it.each(cases)('$name', ({ answers, expected }) => {
    const found = diversityOf(answers)
    for (const [name, value] of Object.entries(expected)) {
      const own = found[name as keyof Diversity]
      if (value === null) expect(own).toBeNull()
      // A dozen float64 operations.
      else expect(own).toBeCloseTo(value, 12)
    }
  })

  it('of one answer, and of nothing said', () => {
    expect(diversityOf(['Yes'])).toMatchObject({ uniqueShare: 1, entropyBits: 0, meanEditDistance: null })
    expect(diversityOf(['', ''])).toMatchObject({ uniqueShare: 0.5, distinct1: null, meanEditDistance: 0 })
  })
})
