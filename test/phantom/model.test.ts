import { readFileSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Template } from '@huggingface/jinja'
import { Tokenizer } from '@huggingface/tokenizers'
import { describe, expect, it } from 'vitest'
import { generateStudies } from '../../src/phantom/index.js'
import { sayReport } from '../../src/phantom/language.js'
import { REGIONS } from '../../src/phantom/types.js'

const file = (name: string): string => fileURLToPath(new URL(`../../models/phantom/${name}`, import.meta.url))
const json = (name: string) => JSON.parse(readFileSync(file(name), 'utf8'))
const config = json('config.json')
const tokenizerConfig = json('tokenizer_config.json')
const tokenizer = new Tokenizer(json('tokenizer.json'), tokenizerConfig)
const tokenId = (token: string): number | undefined => tokenizer.encode(token, { add_special_tokens: false }).ids[0]

describe('the bundled checkpoint', () => {
  it('is small, in bfloat16, and named as published checkpoints are', () => {
    const bytes = readFileSync(file('model.safetensors'))
    expect(statSync(file('model.safetensors')).size).toBeLessThan(10e6)
    const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString())
    const tensors = Object.entries<{ dtype: string; shape: number[] }>(header).filter(
      ([name]) => name !== '__metadata__',
    )
    for (const [name, { dtype }] of tensors) {
      expect(name).toMatch(/^model\.(language_model|visual)\./)
      expect(dtype).toBe('BF16')
    }
    const { text_config: text, vision_config: vision } = config
    expect(header['model.language_model.embed_tokens.weight'].shape).toEqual([text.vocab_size, text.hidden_size])
    expect(vision.deepstack_visual_indexes).toHaveLength(3)
    expect(text.rope_scaling.mrope_section.reduce((a: number, b: number) => a + b)).toBe(text.head_dim / 2)
  })

  it('keeps the pictures of the world at their size', () => {
    const { size, patch_size, merge_size } = json('preprocessor_config.json')
    expect(size).toEqual({ longest_edge: 96 * 96, shortest_edge: 96 * 96 })
    expect(96 % (patch_size * merge_size)).toBe(0)
  })

  it('gives the special tokens the ids of its configuration', () => {
    expect(tokenId('<|image_pad|>')).toBe(config.image_token_id)
    expect(tokenId('<|vision_start|>')).toBe(config.vision_start_token_id)
    expect(tokenId('<|vision_end|>')).toBe(config.vision_end_token_id)
    expect(tokenId('<|im_end|>')).toBe(config.text_config.eos_token_id)
    expect(json('generation_config.json').eos_token_id).toEqual([tokenId('<|im_end|>'), tokenId('<|endoftext|>')])
  })

  it('has one token for every word of the world', () => {
    for (const study of generateStudies({ seed: 3, split: 'train', count: 40 })) {
      const text = sayReport(REGIONS, study.findings, 0)
      const { ids } = tokenizer.encode(text, { add_special_tokens: false })
      expect(ids).toHaveLength(text.match(/\w+|[^\w\s]/g)!.length)
      expect(tokenizer.decode(ids, { skip_special_tokens: true })).toBe(text)
    }
  })

  it('renders a conversation as the architecture expects it', () => {
    const messages = [{ role: 'user', content: [{ type: 'image' }, { type: 'text', text: 'Is there a nodule?' }] }]
    const turn = '<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Is there a nodule?<|im_end|>\n'
    const template = new Template(readFileSync(file('chat_template.jinja'), 'utf8'))
    expect(template.render({ messages, add_generation_prompt: true })).toBe(`${turn}<|im_start|>assistant\n`)
    const answered = [...messages, { role: 'assistant', content: 'Yes.' }]
    expect(template.render({ messages: answered })).toBe(`${turn}<|im_start|>assistant\nYes.<|im_end|>\n`)
  })
})
