import { describe, expect, it } from 'vitest'
import type { Pair } from '../../src/data/records.js'
import { encodeTagged, phraseMask } from '../../src/text/phrases.js'
import { type CollateContext, collate } from '../../src/train/collate.js'
import { qwen3 } from './qwen.js'

const { tokenizer } = qwen3()
const spell = (ids: readonly number[]) => ids.map((id) => tokenizer.decode([id]))

describe('phraseMask', () => {
  it('takes the token with the leading space along, and nothing for an empty span', () => {
    const { ids, offsets } = tokenizer.encodeWithOffsets('shows the left lung.')
    const marked = (spans: [number, number][]) => spell(ids.filter((_, i) => phraseMask(offsets, spans)[i]))
    expect(marked([[10, 14]])).toEqual([' left'])
    expect(marked([[10, 10]])).toEqual([])
    expect(phraseMask(offsets, [[10, 14]], ids.length + 1).at(-1)).toBe(0)
  })
})

describe('encodeTagged', () => {
  const tagged = (text: string, ...spans: [number, number][]) => {
    const { ids, mask } = encodeTagged(tokenizer, text, spans)
    return { all: spell(ids), phrase: spell(ids.filter((_, i) => mask[i])) }
  }

  it('cuts the space off a phrase, as the release does', () => {
    expect(tagged('shows the left lung.', [10, 14])).toEqual({
      all: ['shows', ' the', ' ', 'left', ' lung', '.'],
      phrase: ['left'],
    })
  })

  it('puts spaces around every phrase but not at the ends', () => {
    expect(tagged('No, no mass', [0, 2], [4, 6]).all).toEqual(['No', ' ,', ' ', 'no', ' mass'])
    expect(tagged('left right', [0, 4], [5, 10]).all).toEqual(['left', ' ', 'right'])
    expect(tagged('It is left', [6, 10]).all).toEqual(['It', ' is', ' ', 'left'])
  })

  it('is the plain text without phrases', () => {
    expect(tagged('It is left.', [3, 3]).all).toEqual(spell(tokenizer.encode('It is left.')))
  })
})

describe('collate with maskMode authors', () => {
  const chat = { tokenizer, endTokenId: 7, promptIds: () => Int32Array.of(1, 2) } as unknown as CollateContext['chat']
  const context: CollateContext = { chat, imageTokens: () => 1, imageRoot: '.', corrupted: false }
  const pair = (chosen: string, rejected: string, edits: Pair['edits']): Pair => ({
    id: 'p',
    sampleId: 's',
    images: [],
    prompt: 'q',
    chosen,
    rejected,
    origin: 'o',
    edits,
    provenance: {},
  })
  const inside = pair('the left lung', 'the right lung', [{ chosen: [4, 8], rejected: [4, 9], category: 'c' }])
  const first = pair('Left', 'Right', [{ chosen: [0, 4], rejected: [0, 5], category: 'c' }])

  it('tells pairs that it changes from those it does not', () => {
    expect(collate(inside, context).differs).toBe(false)
    const authors = { ...context, maskMode: 'authors' as const }
    expect(collate(first, authors).differs).toBe(false)
    const { input, differs } = collate(inside, authors)
    expect(differs).toBe(true)
    expect(spell([...input.chosen.slice(0, -1)])).toEqual(['the', ' ', 'left', ' lung'])
    expect([...input.chosenMask]).toEqual([0, 0, 1, 0, 0])
    expect(input.chosen.at(-1)).toBe(7)
  })
})
