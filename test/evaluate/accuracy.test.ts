import { describe, expect, it } from 'vitest'
import { accuracyByGroup, compareRounds, type JudgedAnswer } from '../../src/evaluate/accuracy.js'

const answer = (id: number, correct: boolean, change: Partial<JudgedAnswer> = {}): JudgedAnswer => ({
  questionId: `q${id}`,
  imageId: `i${id}`,
  answerType: id % 2 ? 'closed' : 'open',
  ask: id % 2 ? 'presence' : 'side',
  concept: 'nodule',
  question: '',
  reference: '',
  text: '',
  correct,
  decided: true,
  reason: '',
  ...change,
})

describe('accuracyByGroup', () => {
  it('counts every answer, the undecided as wrong', () => {
    const rows = accuracyByGroup([
      answer(1, true),
      answer(2, false, { decided: false }),
      answer(3, false),
      answer(4, true, { concept: 'effusion' }),
    ])
    expect(rows.map((r) => [r.name, r.accuracy.successes, r.accuracy.count, r.undecided])).toEqual([
      ['overall', 2, 4, 1],
      ['closed', 1, 2, 0],
      ['open', 1, 2, 1],
      ['presence', 1, 2, 0],
      ['side', 1, 2, 1],
      ['effusion', 1, 1, 0],
      ['nodule', 1, 3, 1],
    ])
  })

  it('has no group that holds all: it would repeat the first line', () => {
    expect(accuracyByGroup([answer(1, true), answer(3, false)]).map(({ name }) => name)).toEqual(['overall'])
  })
})

describe('compareRounds', () => {
  const before = Array.from({ length: 100 }, (_, i) => answer(i, i < 50))

  it('compares question by question', () => {
    const after = before.map((a, i) => ({ ...a, correct: i < 70 && i !== 3 }))
    const [overall] = compareRounds(before, after)
    expect(overall.counts).toEqual({ bothRight: 49, lost: 1, gained: 20, bothWrong: 30 })
    expect(overall.difference.value).toBeCloseTo(0.19, 12)
    expect(overall.conclusion).toBe('gain')
    expect(compareRounds(after, before)[0].conclusion).toBe('loss')
    expect(compareRounds(before, before)[0].conclusion).toBe('not_resolved')
  })

  it('refuses rounds on other questions', () => {
    expect(() => compareRounds(before, before.slice(1))).toThrow('q0')
    expect(() => compareRounds(before.slice(0, 1), before.slice(0, 2))).toThrow('the end')
  })
})
