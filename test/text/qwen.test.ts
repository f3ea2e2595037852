/** Equal ids to the Rust tokenizer on the genuine Qwen3 file; `generate_tokenizer.py` made the reference. */
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Tokenizer } from '../../src/text/tokenizer.js'
import { qwen2, qwen3, qwen3Path } from './qwen.js'

type Reference = number[] | { count: number; sha256: string }

const fixture = JSON.parse(readFileSync(new URL('./fixtures/qwen3_tokenizer.json', import.meta.url), 'utf8')) as {
  'tokenizer.json': string
  cases: [string, Reference][]
}
const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex')
const { tokenizer } = qwen3()

/** Ids as the fixture keeps them. */
function stored(ids: number[]): Reference {
  return ids.length <= 64 ? ids : { count: ids.length, sha256: sha256(ids.join(',')) }
}

describe('the Qwen3 tokenizer', () => {
  it('is the file the reference was made from', () => {
    expect(sha256(readFileSync(qwen3Path))).toBe(fixture['tokenizer.json'])
    expect(fixture.cases.length).toBeGreaterThan(450)
  })

  it('gives the ids of the Rust tokenizer', () => {
    for (const [text, reference] of fixture.cases) {
      expect(stored(tokenizer.encode(text)), JSON.stringify(text)).toEqual(reference)
    }
  })

  it('decodes its ids to the normalised text', () => {
    for (const [text] of fixture.cases) {
      expect(tokenizer.decode(tokenizer.encode(text)), JSON.stringify(text)).toBe(text.normalize('NFC'))
    }
  })

  it('covers each text with its tokens, gap-free', () => {
    for (const [text] of fixture.cases) {
      const { ids, offsets } = tokenizer.encodeWithOffsets(text)
      expect(offsets).toHaveLength(ids.length)
      let covered = 0
      for (const [start, end] of offsets) {
        expect(start, JSON.stringify(text)).toBeLessThanOrEqual(covered)
        covered = Math.max(covered, end)
      }
      expect(covered, JSON.stringify(text)).toBe(text.length)
    }
  })

  it('leaves out special tokens only: those of tools and thinking are text', () => {
    const ids = tokenizer.encode('<think>hm</think>yes<|im_end|>')
    expect(tokenizer.decode(ids, { skipSpecial: true })).toBe('<think>hm</think>yes')
  })
})

describe('the Qwen2 tokenizer of HuatuoGPT-Vision', () => {
  const huatuo = qwen2().tokenizer

  it('equals Qwen3 on every text without a later added token', () => {
    const later = /<\|(object|box|quad|vision|image|video|fim|repo|file)_|<\/?(think|tool)/
    const shared = fixture.cases.filter(([text]) => !later.test(text))
    expect(shared.length).toBeGreaterThan(350)
    for (const [text, reference] of shared) {
      expect(stored(huatuo.encode(text)), JSON.stringify(text)).toEqual(reference)
    }
  })

  it('spells later added tokens in characters', () => {
    expect(huatuo.encode('<|im_end|>')).toEqual([151645])
    expect(huatuo.encode('<|vision_start|>').every((id) => id < 151643)).toBe(true)
    expect(huatuo.encode('<|user|>\n')).toEqual([27, 91, 872, 91, 397])
  })

  it('is read from vocab.json and merges.txt where a folder has no tokenizer.json', async () => {
    const { definition, config } = qwen2()
    const folder = mkdtempSync(join(tmpdir(), 'fire-qwen2-'))
    try {
      const model = (definition as unknown as { model: { vocab: object; merges: [string, string][] } }).model
      writeFileSync(join(folder, 'vocab.json'), JSON.stringify(model.vocab))
      const merges = model.merges.map((pair) => pair.join(' ')).join('\n')
      writeFileSync(join(folder, 'merges.txt'), `#version: 0.2\n${merges}\n`)
      const listed = Object.fromEntries(
        definition.added_tokens.map(({ id, content }) => [id, { content, special: true }]),
      )
      const settings = { ...config, tokenizer_class: 'Qwen2Tokenizer', added_tokens_decoder: listed }
      writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(settings))
      const read = await Tokenizer.load(folder)
      for (const [text] of fixture.cases) expect(read.encode(text), JSON.stringify(text)).toEqual(huatuo.encode(text))
      writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify({ ...settings, tokenizer_class: 'Other' }))
      await expect(Tokenizer.load(folder)).rejects.toThrow(/no tokenizer.json/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
