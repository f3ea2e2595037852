/** The path from an answer to a pair, whoever provides: what becomes of verdicts and edits. */
import { describe, expect, it } from 'vitest'
import { pair as pairSchema } from '../../src/data/records.js'
import { constructPair, type EditProposal, type Provider } from '../../src/pairs/index.js'
import { countOutcome, emptyStatistics } from '../../src/pairs/statistics.js'
import { makeTask } from './records.js'

const question = 'Which side is the nodule on?'

/** Knows one word: `left` is right. */
function provider(edits?: (text: string) => EditProposal[]): Provider {
  const swap = (text: string): EditProposal[] => {
    const at = /left|right/.exec(text)
    const replacement = at?.[0] === 'left' ? 'right' : 'left'
    return at ? [{ start: at.index, end: at.index + at[0].length, replacement, category: 'laterality' }] : []
  }
  return {
    name: 'sides',
    async judge({ text }) {
      const said = /left|right/.exec(text)?.[0]
      return {
        correct: said === 'left',
        decided: said !== undefined,
        reason: `says ${said ?? 'nothing'}`,
        span: null,
        requests: [],
      }
    },
    edit: async ({ text }) => ({ edits: (edits ?? swap)(text), requests: [] }),
  }
}

function construct(text: string, who = provider(), meta: Record<string, unknown> = {}) {
  const task = makeTask(question, 'left', text, { meta })
  return constructPair(task, { provider: who, blindJudge: null, mode: 'on-policy', seed: 0 })
}

describe('constructPair', () => {
  it('repairs a wrong answer: the own words are rejected', async () => {
    const { pair } = await construct('The nodule is on the right side.')
    expect(pair).toMatchObject({
      chosen: 'The nodule is on the left side.',
      rejected: 'The nodule is on the right side.',
      origin: 'repaired',
      provenance: { provider: 'sides', verdict: 'says right' },
    })
    expect(pair?.edits).toEqual([{ chosen: [21, 25], rejected: [21, 26], category: 'laterality' }])
    expect(pairSchema.safeParse(pair).success).toBe(true)
  })

  it('falsifies a right answer: the own words are chosen', async () => {
    const { pair } = await construct('The nodule is on the left side.')
    expect(pair).toMatchObject({
      chosen: 'The nodule is on the left side.',
      rejected: 'The nodule is on the right side.',
      origin: 'counterfactual',
    })
    expect(pair?.edits).toEqual([{ chosen: [21, 25], rejected: [21, 26], category: 'laterality' }])
  })

  it.each([
    '<think>The left one? No.</think>\n\nThe nodule is on the right side.',
    'The left one? No.</think>The nodule is on the right side.',
  ])('keeps no reasoning: %s', async (text) => {
    const { pair } = await construct(text)
    expect(pair).toMatchObject({
      chosen: 'The nodule is on the left side.',
      rejected: 'The nodule is on the right side.',
    })
  })

  it.each([
    ['empty_answer', '  ', provider()],
    ['empty_answer', '<think>It is on the left', provider()],
    ['empty_answer', '<think>It is on the left</think>', provider()],
    ['undecided', 'The nodule is there.', provider()],
    ['no_edit_found', 'The nodule is on the left side.', provider(() => [])],
    [
      'unchanged',
      'The nodule is on the left side.',
      provider(() => [{ start: 21, end: 25, replacement: 'left', category: 'x' }]),
    ],
    [
      'edit_ratio',
      'The nodule is on the left side.',
      provider((text) => [
        { start: 0, end: text.length, replacement: 'I would say the right lung here.', category: 'x' },
      ]),
    ],
    // The provider's word is not enough: its edit is of words that the reference does not speak of.
    [
      'chosen_not_in_reference',
      'The nodule is on the left side.',
      provider(() => [{ start: 4, end: 10, replacement: 'lesion', category: 'x' }]),
    ],
  ])('turns down an answer: %s', async (rejection, text, who) => {
    expect(await construct(text, who)).toMatchObject({ pair: null, rejection })
  })

  it('hands on the concept of the sample, by which a mask is found', async () => {
    const { pair } = await construct('The nodule is on the left side.', provider(), { concept: 'nodule' })
    expect(pair?.provenance.concept).toBe('nodule')
    expect((await construct('The nodule is on the left side.')).pair?.provenance).not.toHaveProperty('concept')
  })

  it('leaves out what the rules cannot read, unless the provider knows the truth of both sides', async () => {
    const text = 'The gloop is on the left side.'
    expect(await construct(text)).toMatchObject({ pair: null, rejection: 'unread' })
    expect((await construct(text, { ...provider(), isExact: true })).pair?.rejected).toBe(
      'The gloop is on the right side.',
    )
    const liar: Provider = {
      ...provider(),
      isExact: true,
      judge: async () => ({ correct: true, decided: true, reason: '', span: null, requests: [] }),
    }
    expect(await construct(text, liar)).toMatchObject({ pair: null, rejection: 'unread' })
  })

  it('counts what became of the answers', async () => {
    const statistics = emptyStatistics()
    for (const where of ['on the left side', 'on the right side', 'on the right side', 'somewhere else']) {
      countOutcome(statistics, await construct(`The nodule is ${where}.`))
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
