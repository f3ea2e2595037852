/** A model's own chat template: from a question and its images to prompt tokens, from an answer to answer tokens. */
import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Template } from '@huggingface/jinja'
import { DataError, ModelError } from '../errors.js'
import { readJson, Tokenizer } from './tokenizer.js'

export interface Message {
  role: string
  content: string | ({ type: 'image' } | { type: 'text'; text: string })[]
}

export interface ChatOptions {
  tokenizer: Tokenizer
  /** Jinja source. */
  template: string
  /** Text of the special tokens the template may name: bos_token, eos_token, … */
  specials: Record<string, string>
  /** The placeholder that stands for one image in the rendered text and is repeated once per image token. */
  imageTokenId: number
  /** Closes an answer. */
  endTokenId: number
}

/** What an engine knows that the template needs. */
export interface ChatModel {
  imageTokenId: number
  eosTokenIds: number[]
}

export class Chat {
  readonly tokenizer: Tokenizer
  readonly endTokenId: number
  readonly #template: Template
  readonly #specials: Record<string, string>
  readonly #imageTokenId: number

  constructor(options: ChatOptions) {
    this.tokenizer = options.tokenizer
    this.endTokenId = options.endTokenId
    this.#template = new Template(options.template)
    this.#specials = options.specials
    this.#imageTokenId = options.imageTokenId
  }

  /**
   * Reads tokenizer and template of a model folder: chat_template.jinja, chat_template.json, or the entry of
   * tokenizer_config.json, in this order. The answer ends with the tokenizer's eos_token, else with the model's first.
   */
  static async load(folder: string, model: ChatModel): Promise<Chat> {
    const [tokenizer, config] = await Promise.all([
      Tokenizer.load(folder),
      readJson(join(folder, 'tokenizer_config.json')),
    ])
    const specials = specialTokens(config)
    const endTokenId = specials.eos_token ? tokenizer.tokenId(specials.eos_token) : model.eosTokenIds[0]
    if (endTokenId === undefined) throw new ModelError(`${folder} names no end-of-sequence token`)
    const template = await readTemplate(folder, config)
    return new Chat({ tokenizer, template, specials, imageTokenId: model.imageTokenId, endTokenId })
  }

  /** The rendered text of a conversation, one placeholder per image, ready for the assistant's answer. */
  render(messages: Message[]): string {
    return this.#template.render({ ...this.#specials, messages, add_generation_prompt: true })
  }

  /**
   * Tokens of a user turn: its images first, then the text, then the start of the answer. Image k takes
   * `imageTokens[k]` placeholders.
   * @throws {DataError} when the text itself holds the image placeholder.
   */
  promptIds(text: string, imageTokens: readonly number[] = []): Int32Array {
    const images = imageTokens.map(() => ({ type: 'image' }) as const)
    const rendered = this.render([{ role: 'user', content: [...images, { type: 'text', text }] }])
    return this.expandImages(this.tokenizer.encode(rendered), imageTokens)
  }

  /** Repeats the k-th placeholder `imageTokens[k]` times, on ids. */
  expandImages(ids: readonly number[], imageTokens: readonly number[]): Int32Array {
    const found = ids.filter((id) => id === this.#imageTokenId).length
    if (found !== imageTokens.length) {
      const message = `The prompt has ${found} image placeholders for ${imageTokens.length} images`
      throw new DataError(message, { hint: "The question's text must not contain the model's image token." })
    }
    let image = 0
    return Int32Array.from(
      ids.flatMap((id) => (id === this.#imageTokenId ? new Array<number>(imageTokens[image++]).fill(id) : [id])),
    )
  }
}

function specialTokens(config: Record<string, unknown>): Record<string, string> {
  const specials: Record<string, string> = {}
  for (const [key, value] of Object.entries(config)) {
    if (!key.endsWith('_token')) continue
    const content = typeof value === 'object' && value !== null ? (value as { content?: unknown }).content : value
    if (typeof content === 'string') specials[key] = content
  }
  return specials
}

async function readTemplate(folder: string, config: Record<string, unknown>): Promise<string> {
  const jinja = join(folder, 'chat_template.jinja')
  if (await exists(jinja)) return readFile(jinja, 'utf8')
  const json = join(folder, 'chat_template.json')
  const template = (await exists(json)) ? (await readJson(json)).chat_template : config.chat_template
  if (typeof template === 'string') return template
  const named = Array.isArray(template) ? template.find((entry) => entry?.name === 'default') : undefined
  if (typeof named?.template === 'string') return named.template
  throw new ModelError(`${folder} has no chat template`, {
    hint: 'Add chat_template.jinja, or chat_template to tokenizer_config.json.',
  })
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
