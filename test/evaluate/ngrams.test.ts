import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { bleu, ciderD, reportWords, rougeL, unsmoothed } from '../../src/evaluate/reports/ngrams.js'

const golden = JSON.parse(readFileSync(new URL('golden/ngrams.json', import.meta.url), 'utf8'))
interface Case {
  name: string
  reference: string
  candidate: string
  bleu: { exact: number[]; coco: number[] }
  rougeL: { beta1: { f: number }; 'beta1.2': { f: number } }
  ciderD: number
}
const cases: Case[] = golden.cases
const words = ({ reference, candidate }: Case) => ({ reference: reference.split(' '), candidate: candidate.split(' ') })
const near = (values: number[], expected: number[]): void => {
  // A few dozen float64 operations.
  for (const [i, value] of values.entries()) expect(value).toBeCloseTo(expected[i], 12)
}

describe('values of the captioning code', () => {
  it.each(cases)('$name', (each) => {
    near(bleu([words(each)]), each.bleu.coco)
    near(bleu([words(each)], unsmoothed), each.bleu.exact)
    near([rougeL(words(each), 1), rougeL(words(each))], [each.rougeL.beta1.f, each.rougeL['beta1.2'].f])
  })

  it('of the corpus', () => {
    const all = cases.map(words)
    near(bleu(all), golden.corpus.bleu.coco)
    near(bleu(all, unsmoothed), golden.corpus.bleu.exact)
    near(
      ciderD(all),
      cases.map(({ ciderD }) => ciderD),
    )
    near([ciderD(all).reduce((sum, value) => sum + value, 0) / all.length], [golden.corpus.ciderD])
  })

  it('cleans as the goldens are cleaned', () => {
    expect(reportWords('The heart is enlarged. No effusion, 3.5 cm.').join(' ')).toBe(
      'the heart is enlarged . no effusion 3.5 cm .',
    )
    for (const { reference } of cases) expect(reportWords(reference).join(' ')).toBe(reference)
  })

  it('has no number for nothing said', () => {
    expect(bleu([{ reference: ['a'], candidate: [] }], unsmoothed)).toEqual([0, 0, 0, 0])
    expect(rougeL({ reference: ['a'], candidate: [] })).toBe(0)
    expect(ciderD([{ reference: ['a'], candidate: [] }])).toEqual([0])
  })
})
