import { describe, expect, it } from 'vitest'
import { pairProblem } from '../../src/data/pairs.js'
import type { Pair } from '../../src/data/records.js'
import { type AppliedEdits, applyEdits, type EditProposal } from '../../src/pairs/edits.js'

/** mulberry32: enough for test data, and the same data on every machine. */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

function propose(text: string, find: string, replacement: string, category = 'finding'): EditProposal {
  const start = text.indexOf(find)
  if (start < 0) throw new Error(`'${find}' is not in '${text}'`)
  return { start, end: start + find.length, replacement, category }
}

/** The differing words, as [original, edited] strings. */
function phrases(text: string, proposals: EditProposal[]): [string, string][] {
  const applied = applyEdits(text, proposals)
  return applied.edits.map(({ original, edited }) => [text.slice(...original), applied.text.slice(...edited)])
}

const asPair = (chosen: string, { text: rejected, edits }: AppliedEdits): Pair => ({
  id: 'p',
  sampleId: 's',
  images: [],
  prompt: '',
  chosen,
  rejected,
  origin: 'counterfactual',
  edits: edits.map(({ original, edited, category }) => ({ chosen: original, rejected: edited, category })),
  provenance: {},
})

describe('applyEdits', () => {
  it('replaces a word and gives its span on both sides', () => {
    const text = 'There is a nodule in the left upper zone.'
    const applied = applyEdits(text, [propose(text, 'left', 'right', 'laterality')])
    expect(applied.text).toBe('There is a nodule in the right upper zone.')
    expect(applied.edits).toEqual([{ original: [25, 29], edited: [25, 30], category: 'laterality' }])
  })

  it('trims the words that both sides share', () => {
    const text = 'The left lower lobe is clear.'
    expect(phrases(text, [propose(text, 'left lower lobe', 'right lower lobe')])).toEqual([['left', 'right']])
  })

  it('widens to whole words when only letters differ', () => {
    const text = 'There is no effusion.'
    expect(phrases(text, [propose(text, 'no', 'not')])).toEqual([['no', 'not']])
    expect(phrases('a nodule', [{ start: 8, end: 8, replacement: 's', category: 'count' }])).toEqual([
      ['nodule', 'nodules'],
    ])
  })

  it('never splits a decimal number', () => {
    const text = 'It measures 3.2 cm.'
    expect(phrases(text, [propose(text, '3', '4', 'size')])).toEqual([['3.2', '4.2']])
    expect(phrases(text, [propose(text, '.2', '.5', 'size')])).toEqual([['3.2', '3.5']])
  })

  it('leans an insertion or deletion on the word that follows', () => {
    const text = 'There is effusion on the left.'
    expect(phrases(text, [{ start: 9, end: 9, replacement: 'no ', category: 'presence' }])).toEqual([
      ['effusion', 'no effusion'],
    ])
    const negative = 'There is no effusion.'
    expect(phrases(negative, [propose(negative, 'no ', '')])).toEqual([['no effusion', 'effusion']])
  })

  it('leans a deletion at the end on the word before', () => {
    const text = 'A nodule is seen on the left.'
    expect(phrases(text, [propose(text, ' on the left', '')])).toEqual([['seen on the left', 'seen']])
  })

  it('keeps several edits apart and merges those that meet', () => {
    const text = 'No, there is no nodule on the left.'
    const edits = [propose(text, 'No', 'Yes'), propose(text, 'no', 'a'), propose(text, 'left', 'right')]
    expect(applyEdits(text, edits).text).toBe('Yes, there is a nodule on the right.')
    expect(phrases(text, edits)).toEqual([
      ['No', 'Yes'],
      ['no', 'a'],
      ['left', 'right'],
    ])
    const touching = [
      { start: 0, end: 2, replacement: 'x', category: 'a' },
      { start: 2, end: 4, replacement: 'y', category: 'b' },
    ]
    expect(applyEdits('abcd', touching)).toEqual({
      text: 'xy',
      edits: [{ original: [0, 4], edited: [0, 2], category: 'a+b' }],
    })
  })

  it('keeps surrogate pairs and combining marks whole', () => {
    expect(phrases('x 😀 y', [{ start: 3, end: 4, replacement: '\ude01', category: 'c' }])).toEqual([['😀', '😁']])
    expect(phrases('cafe\u0301 noir', [{ start: 3, end: 4, replacement: 'i', category: 'c' }])).toEqual([
      ['cafe\u0301', 'cafi\u0301'],
    ])
  })

  it.each([
    ['out_of_range', 'abc', [{ start: 2, end: 9, replacement: 'x', category: 'c' }]],
    ['out_of_range', 'abc', [{ start: 2, end: 1, replacement: 'x', category: 'c' }]],
    ['out_of_range', 'abc', [{ start: 0.5, end: 1, replacement: 'x', category: 'c' }]],
    [
      'overlap',
      'abc def',
      [
        { start: 0, end: 5, replacement: 'x', category: 'c' },
        { start: 4, end: 7, replacement: 'y', category: 'c' },
      ],
    ],
    ['unchanged', 'abc', [{ start: 0, end: 3, replacement: 'abc', category: 'c' }]],
    ['unchanged', 'abc', []],
    [
      'unchanged',
      'ab',
      [
        { start: 0, end: 1, replacement: '', category: 'c' },
        { start: 1, end: 1, replacement: 'a', category: 'c' },
      ],
    ],
    ['empty_side', 'abc', [{ start: 0, end: 3, replacement: '', category: 'c' }]],
  ])('refuses %s', (problem, text, proposals) => {
    expect(() => applyEdits(text, proposals)).toThrowError(expect.objectContaining({ problem }))
  })

  it('keeps its promises on random texts and random edits', () => {
    const next = random(7)
    const alphabet = [
      'a',
      'B',
      'é',
      'e\u0301',
      '中',
      '😀',
      '👩‍⚕️',
      ' ',
      ' ',
      ' ',
      '.',
      ',',
      '-',
      '3',
      '7',
      '\n',
      "'",
      '\ud83d',
    ]
    const draw = (longest: number) =>
      Array.from({ length: Math.floor(next() * longest) }, () => alphabet[Math.floor(next() * alphabet.length)]).join(
        '',
      )
    let applied = 0
    for (let round = 0; round < 4000; round++) {
      const text = draw(24)
      const cuts = Array.from({ length: 2 * (1 + Math.floor(next() * 3)) }, () =>
        Math.floor(next() * (text.length + 1)),
      )
      cuts.sort((a, b) => a - b)
      const proposals: EditProposal[] = []
      for (let i = 0; i < cuts.length; i += 2) {
        proposals.push({ start: cuts[i], end: cuts[i + 1], replacement: draw(6), category: `c${i}` })
      }
      const plain = [...proposals]
        .reverse()
        .reduce((t, p) => t.slice(0, p.start) + p.replacement + t.slice(p.end), text)
      let result: AppliedEdits
      try {
        result = applyEdits(text, proposals)
      } catch (error) {
        expect(error).toHaveProperty('code', 'ERR_FIRE_EDIT')
        continue
      }
      applied++
      const label = JSON.stringify({ text, proposals, result })
      expect(result.text, label).toBe(plain)
      expect(pairProblem(asPair(text, result)), label).toBeUndefined()
      for (const { original, edited } of result.edits) {
        expect(text.slice(...original).trim(), label).not.toBe('')
        expect(result.text.slice(...edited).trim(), label).not.toBe('')
        for (const [body, [start, end]] of [
          [text, original],
          [result.text, edited],
        ] as const) {
          expect(/[\p{L}\p{N}]$/u.test(body.slice(0, start)) && /^[\p{L}\p{N}]/u.test(body.slice(start)), label).toBe(
            false,
          )
          expect(/[\p{L}\p{N}]$/u.test(body.slice(0, end)) && /^[\p{L}\p{N}]/u.test(body.slice(end)), label).toBe(false)
        }
      }
    }
    expect(applied).toBeGreaterThan(2000)
  })
})
