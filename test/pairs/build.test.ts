import { describe, expect, it } from 'vitest'
import { pair as pairSchema } from '../../src/data/records.js'
import { buildPair, countOutcome, emptyStatistics, type PairRequest } from '../../src/pairs/index.js'

const limits = { maxEditedShare: 0.5 }
const truth = 'left'
const judge = (text: string) => ({
  correct: text.includes(truth),
  decided: /left|right/.test(text),
  reason: `says ${/left|right/.exec(text)?.[0] ?? 'nothing'}`,
})
const swap = (text: string, to: string) => () => {
  const at = /left|right/.exec(text)
  return at ? [{ start: at.index, end: at.index + at[0].length, replacement: to, category: 'laterality' }] : null
}

function request(text: string, change: Partial<PairRequest> = {}): PairRequest {
  return {
    id: 'p1',
    images: [{ path: 'images/a.png', sha256: '0'.repeat(64), width: 8, height: 8 }],
    response: {
      sampleId: 's1',
      model: 'm',
      adapter: null,
      prompt: 'q',
      text,
      tokens: [],
      sampling: { temperature: 1 },
      seed: 3,
    },
    verdict: judge(text),
    prompt: 'Which side?',
    repair: swap(text, 'left'),
    counterfactual: swap(text, 'right'),
    judge,
    ...change,
  }
}

describe('buildPair', () => {
  it('repairs a wrong answer: the own words are rejected', () => {
    const { pair } = buildPair(request('It is on the right side.'), limits)
    expect(pair).toMatchObject({
      chosen: 'It is on the left side.',
      rejected: 'It is on the right side.',
      origin: 'repaired',
    })
    expect(pair?.edits).toEqual([{ chosen: [13, 17], rejected: [13, 18], category: 'laterality' }])
    expect(pairSchema.safeParse(pair).success).toBe(true)
  })

  it('falsifies a right answer: the own words are chosen', () => {
    const { pair } = buildPair(request('It is on the left side.'), limits)
    expect(pair).toMatchObject({
      chosen: 'It is on the left side.',
      rejected: 'It is on the right side.',
      origin: 'counterfactual',
    })
    expect(pair?.edits).toEqual([{ chosen: [13, 17], rejected: [13, 18], category: 'laterality' }])
  })

  it.each([
    ['empty_answer', request('  ')],
    ['undecided', request('It is there.')],
    ['no_edit_found', request('It is on the left side.', { counterfactual: () => null })],
    [
      'not_verified',
      request('It is on the left side.', { judge: () => ({ correct: true, decided: true, reason: '' }) }),
    ],
    [
      'not_verified',
      request('It is on the right side.', { judge: () => ({ correct: true, decided: false, reason: '' }) }),
    ],
    ['too_many_words_changed', request('left')],
    ['unchanged', request('It is on the left side.', { counterfactual: swap('It is on the left side.', 'left') })],
  ])('turns down an answer: %s', (rejection, asked) => {
    expect(buildPair(asked, limits)).toMatchObject({ pair: null, rejection })
  })

  it('counts what became of the answers', () => {
    const statistics = emptyStatistics()
    for (const text of ['on the left side', 'on the right side', 'on the right side', 'somewhere else']) {
      countOutcome(statistics, buildPair(request(text), limits))
    }
    expect(statistics).toMatchObject({
      answers: 4,
      pairs: 3,
      byOrigin: { repaired: 2, counterfactual: 1 },
      byCategory: { laterality: 3 },
      byOriginAndCategory: { repaired: { laterality: 2 }, counterfactual: { laterality: 1 } },
      byRejection: { undecided: 1 },
    })
  })
})
