import { describe, expect, it } from 'vitest'
import { DataError } from '../../src/errors.js'
import { phraseMask } from '../../src/text/phrases.js'
import { Tokenizer } from '../../src/text/tokenizer.js'
import { tinyTokenizer } from '../fakes/world.js'

const { definition, config } = tinyTokenizer([' left', ' right', 'left', ' the', ' é', '肺', ' lung'])
const tokenizer = new Tokenizer(definition, config)

/** A small deterministic generator for the property tests. */
function lcg(seed: number): (limit: number) => number {
  let state = seed
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
}

const alphabets = [
  'abc left right lung the ',
  ' \n\t.,!?0123',
  'éüñßøæ',
  '肺葉左右',
  '👍🏽👨‍👩‍👧🫁',
  'e\u0301a\u0300\u0323n\u0303',
  '\u1112\u1161\u11ab가각',
  'שלוםمرحبا',
  'नमस्तेക്ഷ',
  '\u0344\u2126\u212b\uf900',
]

function randomText(random: (limit: number) => number): string {
  let text = ''
  for (let length = random(24) + 1; length > 0; length -= 1) {
    const characters = [...alphabets[random(alphabets.length)]]
    text += characters[random(characters.length)]
  }
  return text
}

describe('encodeWithOffsets', () => {
  it('gives a word the token with its leading space', () => {
    const { ids, offsets } = tokenizer.encodeWithOffsets('the left lung')
    const spelled = ids.map((id) => tokenizer.decode([id]))
    expect(spelled.slice(-2)).toEqual([' left', ' lung'])
    expect(offsets.slice(-2)).toEqual([
      [3, 8],
      [8, 13],
    ])
  })

  it('covers a multi-byte character with each of its byte tokens', () => {
    const { offsets } = tokenizer.encodeWithOffsets('a👍b')
    expect(offsets).toEqual([
      [0, 1],
      [1, 3],
      [1, 3],
      [1, 3],
      [1, 3],
      [3, 4],
    ])
    expect(tokenizer.encodeWithOffsets('肺').offsets).toEqual([[0, 1]])
  })

  it('maps text that NFC shortens back to the original', () => {
    const text = 'x e\u0301 y'
    const { ids, offsets } = tokenizer.encodeWithOffsets(text)
    expect(tokenizer.decode(ids)).toBe('x é y')
    expect(offsets).toEqual([
      [0, 1],
      [1, 4],
      [4, 5],
      [5, 6],
    ])
  })

  it('treats a special token in the text as one token', () => {
    const { ids, offsets } = tokenizer.encodeWithOffsets('a<|im_end|>b')
    expect(ids[1]).toBe(tokenizer.tokenId('<|im_end|>'))
    expect(offsets[1]).toEqual([1, 11])
  })

  it('covers every character, in order, for any text', () => {
    const random = lcg(7)
    for (let round = 0; round < 2000; round += 1) {
      const text = randomText(random)
      const { ids, offsets } = tokenizer.encodeWithOffsets(text)
      expect(offsets).toHaveLength(ids.length)
      expect(tokenizer.decode(ids)).toBe(text.normalize('NFC'))
      let covered = 0
      let previous = 0
      for (const [start, end] of offsets) {
        expect(start, text).toBeGreaterThanOrEqual(previous)
        expect(start, text).toBeLessThanOrEqual(covered)
        expect(end, text).toBeGreaterThan(start)
        previous = start
        covered = Math.max(covered, end)
      }
      expect(covered, text).toBe(text.length)
    }
  })

  it('agrees with plain prefix encoding where tokens end between characters', () => {
    const random = lcg(11)
    for (let round = 0; round < 300; round += 1) {
      const text = randomText(random).normalize('NFC')
      const { ids, offsets } = tokenizer.encodeWithOffsets(text)
      offsets.forEach(([, end], index) => {
        const whole = tokenizer.decode(ids.slice(0, index + 1))
        if (!whole.includes('\uFFFD')) expect(whole).toBe(text.slice(0, end))
      })
    }
  })

  it('is empty for an empty text', () => {
    expect(tokenizer.encodeWithOffsets('')).toEqual({ ids: [], offsets: [] })
  })

  it('refuses a tokenizer that adds a prefix space', () => {
    const { definition: prefixed, config: same } = tinyTokenizer(['a'])
    const pre = (prefixed as { pre_tokenizer: { pretokenizers: object[] } }).pre_tokenizer
    pre.pretokenizers = [{ type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true }]
    expect(() => new Tokenizer(prefixed, same).encodeWithOffsets('a b')).toThrow(DataError)
  })
})

describe('phraseMask', () => {
  const masked = (text: string, spans: [number, number][]): string[] => {
    const { ids, offsets } = tokenizer.encodeWithOffsets(text)
    const mask = phraseMask(offsets, spans, ids.length + 1)
    expect(mask).toHaveLength(ids.length + 1)
    expect(mask[ids.length]).toBe(0)
    return ids.filter((_, index) => mask[index]).map((id) => tokenizer.decode([id]))
  }

  it('takes tokens that overlap a span and no others', () => {
    expect(masked('in the left lung', [[7, 11]])).toEqual([' left'])
    expect(masked('in the left lung', [[7, 16]])).toEqual([' left', ' lung'])
    expect(masked('in the left lung', [[8, 9]])).toEqual([' left'])
    expect(masked('in the left lung', [[3, 7]])).toEqual([' the', ' left'])
  })

  it('selects nothing for an empty span', () => {
    expect(masked('in the left lung', [[7, 7]])).toEqual([])
  })

  it('selects a token exactly when one of its characters is in a span', () => {
    const random = lcg(3)
    for (let round = 0; round < 500; round += 1) {
      const text = randomText(random)
      const start = random(text.length)
      const end = start + random(text.length - start + 1)
      const { offsets } = tokenizer.encodeWithOffsets(text)
      const mask = phraseMask(offsets, [[start, end]])
      offsets.forEach(([from, to], token) => {
        let overlaps = false
        for (let index = from; index < to; index += 1) overlaps ||= index >= start && index < end
        expect(Boolean(mask[token])).toBe(overlaps)
      })
    }
  })
})

describe('decoder', () => {
  it('holds back a split character until it is whole', () => {
    const decoder = tokenizer.decoder()
    const pieces = tokenizer.encode('a👍').map((id) => decoder.push(id))
    expect(pieces).toEqual(['a', '', '', '', '👍'])
    expect(decoder.end()).toBe('')
  })

  it('leaves special tokens out when asked, and unknown ids always', () => {
    const ids = [...tokenizer.encode('a<|im_end|>'), 100_000]
    expect(tokenizer.decode(ids)).toBe('a<|im_end|>')
    expect(tokenizer.decode(ids, { skipSpecial: true })).toBe('a')
  })
})
