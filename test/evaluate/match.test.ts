import { describe, expect, it } from 'vitest'
import { matchAnswer, type OpenMatch } from '../../src/evaluate/index.js'

const match = (answer: string, text: string, answerType: 'closed' | 'open' = 'closed', open: OpenMatch = 'exact') =>
  matchAnswer({ answer, answerType }, text, open)

describe('matchAnswer', () => {
  it.each([
    ['yes', 'Yes, there is an effusion.', true],
    ['Yes', 'No, yes would be wrong.', false],
    ['no', 'There is no effusion.', true],
    ['no', 'NO', true],
    ['yes', 'No.', false],
  ])('closed %s against %j by the first verdict', (answer, text, correct) => {
    expect(match(answer, text)).toMatchObject({ correct, decided: true })
  })

  it('finds no verdict inside a word', () => {
    expect(match('no', 'The heart is normal.')).toMatchObject({ correct: false, decided: false })
    expect(match('yes', '')).toMatchObject({ correct: false, decided: false, reason: 'the answer is empty' })
    expect(match('', 'Yes')).toMatchObject({ correct: false, decided: false })
  })

  it.each([
    ['Lung', 'It is the lung.', true],
    ['Left Lung', 'the left, lung', true],
    ['Left Lung', 'the left upper lung', false],
    ['T2', 'T2-weighted', true],
    ['CT', 'It is direct.', false],
  ])('closed choice %s is looked for as a phrase in %j', (answer, text, correct) => {
    expect(match(answer, text)).toMatchObject({ correct, decided: true })
  })

  it('compares open answers as a whole, or as a phrase where told to', () => {
    expect(match('The left lobe', 'left lobe.', 'open').correct).toBe(true)
    expect(match('left lobe', 'In the left lobe.', 'open').correct).toBe(false)
    expect(match('left lobe', 'In the left lobe.', 'open', 'phrase').correct).toBe(true)
    expect(match('3.2 cm', '3.2 cm', 'open').correct).toBe(true)
    expect(match('3.2 cm', '32 cm', 'open').correct).toBe(false)
    expect(match('左肺', '左肺。', 'open').correct).toBe(true)
    expect(match('yes', 'yes, clearly', 'open').correct).toBe(false)
  })
})
