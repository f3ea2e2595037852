import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { readGreen } from '../../src/evaluate/reports/green.js'
import { readGreenParity } from '../../src/evaluate/reports/green-parity.js'

const golden = JSON.parse(readFileSync(new URL('golden/green.json', import.meta.url), 'utf8'))
interface Case {
  name: string
  text: string
  finishReason: string
  parity: object
  strict: { repairs: string[] }
}
const cases: Case[] = golden.cases

describe('replies of a GREEN model', () => {
  it.each(cases)('$name, as published', ({ text, parity }) => {
    expect(readGreenParity(text)).toEqual(parity)
  })

  it.each(cases)('$name, strictly', ({ text, finishReason, strict }) => {
    const found = readGreen(text, finishReason)
    expect({ ...found, repairs: [...found.repairs].sort() }).toEqual({ ...strict, repairs: [...strict.repairs].sort() })
  })

  it('come to the means of both readings', () => {
    const parity = cases.map(({ text }) => readGreenParity(text).green)
    expect(parity.reduce((a, b) => a + b) / parity.length).toBeCloseTo(golden.summary.parity.mean, 12)
    const strict = cases.flatMap(({ text, finishReason }) => readGreen(text, finishReason).green ?? [])
    expect(strict.reduce((a, b) => a + b) / strict.length).toBeCloseTo(golden.summary.strict.mean, 12)
  })
})

const sections = (significant: string, matched: string): string =>
  `[Explanation]:\nx\n\n[Clinically Significant Errors]:\n${significant}\n\n[Clinically Insignificant Errors]:\nNone.\n\n[Matched Findings]:\n${matched}`

describe('the strict reader', () => {
  it.each([
    ['Normal heart and lungs', 'count_missing'],
    ['2019. Comparison', 'bad_count'],
    ['2-3. Heart', 'bad_count'],
    ['', 'empty_matched'],
    ['2. Heart; bones\n3. Lungs; pleura; spine', 'count_twice'],
    ['1. Heart\n2. Bones', 'count_twice'],
  ])('refuses %j as matched findings', (matched, reason) => {
    expect(readGreen(sections('No errors.', matched))).toMatchObject({ status: 'unreadable', reason })
  })

  it.each([
    ['(a) False: 1. x\n(2) Missing: 1. y', 'mixed_labels'],
    ['a nodule was missed', 'no_items'],
    ['', 'empty_significant'],
    ['(b) Missing finding: 3 cm nodule', 'bad_count'],
    ['(a) False report: 1. x\nMissing finding: 2. y; z', 'count_without_label'],
    ['(a) False report: 1. x\n2. Missing finding: 2. y; z', 'count_without_label'],
    ['None.\nMissing finding: 2', 'count_without_label'],
    ['No errors but 2 missing findings', 'no_items'],
    ['(a) False report: 1. x\n(a) False report: 2. y; z', 'category_twice'],
    ['(a) False report: 1. x\n**(g) Other**: 1. y', 'unknown_category'],
  ])('refuses %j as errors', (significant, reason) => {
    expect(readGreen(sections(significant, '2. Heart; bones'))).toMatchObject({ status: 'unreadable', reason })
  })

  it.each([
    ['(a) x: 1. n\n**(b) z**: 2. m; o', [1, 2, 0, 0, 0, 0]],
    ['None.\nb. omission: 2. m; o', [0, 2, 0, 0, 0, 0]],
    ['**a.** x: 1. n', [1, 0, 0, 0, 0, 0]],
    ['a: x: 1. n\nc: y: 0.', [1, 0, 0, 0, 0, 0]],
    ['- **(f)** Omitted: **1.** n', [0, 0, 0, 0, 0, 1]],
  ])('reads every labelled line of %j, and says that it is not as asked', (significant, counts) => {
    const found = readGreen(sections(significant, '1. Heart'))
    expect(found).toMatchObject({ status: 'repaired', repairs: expect.arrayContaining(['items']), significant: counts })
  })

  it.each([
    ['1) x: 1. n\n2) y: 0.', [1, 0, 0, 0, 0, 0]],
    ['(A) x: 1. n\nb) y: 2. n; m', [1, 2, 0, 0, 0, 0]],
    ['- (c) y: 1. n', [0, 0, 1, 0, 0, 0]],
    ['(b) Missing: 2. nodule;\nA small effusion', [0, 2, 0, 0, 0, 0]],
  ])('reads %j as it stands', (significant, counts) => {
    expect(readGreen(sections(significant, '1. Heart'))).toMatchObject({ status: 'ok', significant: counts })
  })

  it('takes a sentence about matched findings for no heading', () => {
    expect(readGreen(sections('(a) False: 0.\nMatched findings are few.', '1. Heart'))).toMatchObject({ matched: 1 })
  })

  it('has no score where nothing matched and nothing is wrong, and the published reading has 0', () => {
    const reply = sections('No errors.', '0.')
    expect(readGreen(reply).green).toBeNull()
    expect(readGreenParity(reply).green).toBe(0)
  })

  it('reads what stands after the turn and the repeated format as published', () => {
    const real = sections('(a) False: 1. x', '3. Heart; lungs; bones')
    const echo = (indent: string): string =>
      `[Explanation]:\n${indent}<Explanation>\n\n[Matched Findings]:\n<count>. <findings>`
    for (const indent of ['', '    ']) {
      expect(readGreenParity(`${echo(indent)}<|assistant|>${real}</s>`).matched).toBe(3)
    }
    // Of two forms of the repeated format the published code finds the indented one only.
    expect(readGreenParity(`${echo('    ')}\n\n${real}`).matched).toBe(0)
    expect(readGreenParity(`${echo('')}\n\n${real}`).matched).toBe(3)
  })

  it('counts digits of other scripts as the published reading does', () => {
    expect(readGreenParity(sections('(a) False: ٢. x', '٣. Heart')).significant[0]).toBe(2)
    expect(readGreenParity(sections('(a) False: 𝟗. x', '𝟏𝟎. Heart'))).toMatchObject({ matched: 10 })
  })
})
