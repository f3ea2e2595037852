/** A model's way of talking: from a question and its images to prompt tokens, from an answer to answer tokens. */
import { join } from 'node:path'
import { DataError, ModelError } from '../errors.js'
import { checkOptions } from '../options.js'
import { exists, readJson, readModelFile } from './files.js'
import { type ChatFormat, HuatuoFormat, JinjaFormat, type Message, type TemplateSource } from './formats.js'
import { Tokenizer } from './tokenizer.js'

/** The parts of a `Chat`, for models whose folder `Chat.load` cannot read. */
export interface ChatOptions {
  tokenizer: Tokenizer
  format: ChatFormat
  /** The placeholder that stands for one image in what `format` gives and is repeated once per image token. */
  imageTokenId: number
  /** Closes an answer. */
  endTokenId: number
  /** Tokens of the longest sequence that the model was trained for; left out where its folder does not say. */
  contextLimit?: number
}

/** What an engine knows that a conversation needs. */
export interface ChatModel {
  imageTokenId: number
  eosTokenIds: number[]
}

/** A model's way of talking: `promptIds` for a question, `tokenizer` and `endTokenId` for an answer. */
export class Chat {
  readonly tokenizer: Tokenizer
  readonly endTokenId: number
  /** Tokens of the longest sequence that the model was trained for (`max_position_embeddings`), where it is known. */
  readonly contextLimit: number | undefined
  readonly #format: ChatFormat
  readonly #imageTokenId: number

  constructor(options: ChatOptions) {
    checkOptions('Chat', options, {
      tokenizer: true,
      format: true,
      imageTokenId: true,
      endTokenId: true,
      contextLimit: true,
    })
    this.tokenizer = options.tokenizer
    this.endTokenId = options.endTokenId
    this.contextLimit = options.contextLimit
    this.#format = options.format
    this.#imageTokenId = options.imageTokenId
  }

  /**
   * Reads tokenizer and chat format of a model folder. `model_type: llava_qwen2` is HuatuoGPT-Vision, whose folders carry
   * no template; any other folder has one, in chat_template.jinja, chat_template.json, processor_config.json or
   * tokenizer_config.json, the first that is there. The answer ends with the tokenizer's eos_token, else with the model's first.
   * @throws {ModelError} when the folder lacks a template or an end-of-sequence token.
   */
  static async load(folder: string, model: ChatModel): Promise<Chat> {
    const [tokenizer, config] = await Promise.all([
      Tokenizer.load(folder),
      readJson(join(folder, 'tokenizer_config.json')),
    ])
    const { imageTokenId } = model
    const specials = specialTokens(config)
    const endTokenId = specials.eos_token ? tokenizer.tokenId(specials.eos_token) : model.eosTokenIds[0]
    if (endTokenId === undefined) throw new ModelError(`${folder} names no end-of-sequence token`)
    const json = await readJson(join(folder, 'config.json'))
    const format =
      json.model_type === 'llava_qwen2'
        ? new HuatuoFormat(tokenizer, imageTokenId)
        : new JinjaFormat(tokenizer, await readTemplate(folder), specials, imageTokenId)
    return new Chat({ tokenizer, format, imageTokenId, endTokenId, contextLimit: contextLimit(json) })
  }

  /**
   * Tokens of a user turn: its images first, then the text, then the start of the answer. Image k takes
   * `imageTokens[k]` placeholders.
   * @throws {DataError} when the text itself holds the image token, or the template does not show every image.
   */
  promptIds(text: string, imageTokens: readonly number[] = []): Int32Array {
    const images = imageTokens.map(() => ({ type: 'image' }) as const)
    const message: Message = { role: 'user', content: [...images, { type: 'text', text }] }
    return this.expandImages(this.#format.encode([message]), imageTokens)
  }

  /** Repeats the k-th placeholder `imageTokens[k]` times, on ids. */
  expandImages(ids: readonly number[], imageTokens: readonly number[]): Int32Array {
    const found = ids.filter((id) => id === this.#imageTokenId).length
    if (found !== imageTokens.length) {
      throw new DataError(`The prompt has ${found} image placeholders for ${imageTokens.length} images`, {
        hint: "The model's chat template must write one image token per image.",
      })
    }
    let image = 0
    return Int32Array.from(
      ids.flatMap((id) => (id === this.#imageTokenId ? new Array<number>(imageTokens[image++]).fill(id) : [id])),
    )
  }
}

function contextLimit(config: Record<string, unknown>): number | undefined {
  const text = (config.text_config ?? {}) as Record<string, unknown>
  const limit = Number(text.max_position_embeddings ?? config.max_position_embeddings)
  return limit > 0 ? limit : undefined
}

/** @throws {DataError} when a sequence of so many tokens is longer than the model was trained for. */
export function refuseBeyondContext(tokens: number, { contextLimit: limit }: Chat): void {
  if (limit === undefined || tokens <= limit) return
  throw new DataError(`it takes ${tokens} tokens, the model's context has ${limit} (max_position_embeddings)`, {
    detail: { tokens, limit },
    hint: 'Shorten its text or images, or set beyondContext to take it as it is.',
  })
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

async function readTemplate(folder: string): Promise<TemplateSource> {
  const jinja = join(folder, 'chat_template.jinja')
  if (exists(jinja)) return { path: jinja, source: await readModelFile(jinja) }
  for (const name of ['chat_template.json', 'processor_config.json', 'tokenizer_config.json']) {
    const path = join(folder, name)
    const source = exists(path) && templateIn(await readJson(path))
    if (source) return { path, source }
  }
  throw new ModelError(`${folder} has no chat template`, {
    hint: 'Add chat_template.jinja, or chat_template to tokenizer_config.json.',
  })
}

/** The template of a configuration: a text, or the entry named default of a list. */
function templateIn({ chat_template: template }: Record<string, unknown>): string | undefined {
  const named = Array.isArray(template) ? template.find((entry) => entry?.name === 'default')?.template : template
  return typeof named === 'string' ? named : undefined
}
