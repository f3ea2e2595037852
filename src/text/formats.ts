/** How a conversation becomes prompt tokens: a model's own Jinja template, or HuatuoGPT-Vision's fixed format. */
import { Template } from '@huggingface/jinja'
import { DataError, ModelError, UnsupportedError } from '../errors.js'
import { bounded } from './bounded.js'
import type { Tokenizer } from './tokenizer.js'

/** One turn of a conversation; images stand where the model shall see them. */
export interface Message {
  role: string
  content: string | ({ type: 'image' } | { type: 'text'; text: string })[]
}

/** Turns a conversation into prompt tokens. */
export interface ChatFormat {
  /**
   * Token ids of a conversation up to the start of the assistant's answer, with one placeholder id per image.
   * @throws {DataError} when a text holds the image token, which would read as one more image.
   * @throws {ModelError} when the model's template refuses the messages.
   */
  encode(messages: readonly Message[]): number[]
}

/** A model's Jinja source and the file it stands in. */
export interface TemplateSource {
  path: string
  source: string
}

/** A published template takes a millisecond. */
const renderSeconds = 2
/** What a template may write beside the texts it is given, in characters; published ones write some dozens a turn. */
const maxFrame = 100_000

/**
 * Renders the template of the model folder and tokenises the whole. A template is a program of strangers: its time, its
 * output and the length of its loops are limited.
 */
export class JinjaFormat implements ChatFormat {
  readonly #tokenizer: Tokenizer
  readonly #template: Template
  readonly #path: string
  readonly #specials: Record<string, string>
  readonly #imageToken: string

  /**
   * @param specials text of the special tokens the template may name: bos_token, eos_token, …
   * @param imageTokenId the token the template writes for an image.
   * @throws {ModelError} when the template is no Jinja.
   */
  constructor(
    tokenizer: Tokenizer,
    { path, source }: TemplateSource,
    specials: Record<string, string>,
    imageTokenId: number,
  ) {
    this.#tokenizer = tokenizer
    this.#path = path
    this.#template = this.#guarded('cannot be read', () => withShortRange(source))
    this.#specials = specials
    this.#imageToken = tokenizer.decode([imageTokenId])
  }

  encode(messages: readonly Message[]): number[] {
    for (const message of messages) refuseToken(textOf(message), this.#imageToken)
    const values = { ...this.#specials, messages: [...messages], add_generation_prompt: true, short_range: shortRange }
    const text = this.#guarded('cannot be used for a question', () => this.#template.render(values))
    const given = messages.reduce((length, message) => length + textOf(message).length, 0)
    if (text.length > 2 * given + maxFrame) throw this.#error(`writes ${text.length} characters for one question`)
    return this.#tokenizer.encode(text)
  }

  #guarded<T>(problem: string, work: () => T): T {
    return bounded(renderSeconds, work, (reason, cause) => this.#error(`${problem}: ${reason}`, cause))
  }

  #error(problem: string, cause?: unknown): ModelError {
    const path = this.#path
    const hint = 'Correct the template, or put one that takes a single user turn into chat_template.jinja beside it.'
    return new ModelError(`The chat template of ${path} ${problem}`, { detail: { path }, hint, cause })
  }
}

/** The library makes the whole list of a loop before its first turn, so `range` is replaced by one of bounded length. */
function withShortRange(source: string): Template {
  const template = new Template(source)
  template.parsed.body.unshift(...new Template('{% set range = short_range %}').parsed.body)
  return template
}

function shortRange(...bounds: number[]): number[] {
  const [start, stop, step = 1] = bounds.length === 1 ? [0, bounds[0]] : bounds
  const length = Math.max(0, Math.ceil((stop - start) / step))
  if (!(length <= maxFrame)) throw new RangeError(`range(${bounds.join(', ')}) is no loop over a conversation`)
  return Array.from({ length }, (_, index) => start + index * step)
}

/** What Python's str.strip() takes off, which is not what trim() does. */
const space = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+'
const outerSpace = new RegExp(`^${space}|${space}$`, 'g')

/**
 * HuatuoGPT-Vision: `<|user|>\n<image>\n{text}\n<|assistant|>\n`, its marks being plain text. Each part between images is
 * tokenised alone. As in its authors' code `<image>`, `<s>` and `</s>` are removed from what the user wrote, and the turn
 * is stripped after its images were put in front: an image keeps the space that follows it.
 */
export class HuatuoFormat implements ChatFormat {
  readonly #tokenizer: Tokenizer
  readonly #imageTokenId: number

  constructor(tokenizer: Tokenizer, imageTokenId: number) {
    this.#tokenizer = tokenizer
    this.#imageTokenId = imageTokenId
  }

  encode(messages: readonly Message[]): number[] {
    const roles = messages.map((message) => message.role)
    if (roles.length % 2 === 0 || roles.some((role, index) => role !== (index % 2 ? 'assistant' : 'user'))) {
      throw new UnsupportedError(`A conversation of the roles ${roles.join(', ')} has no HuatuoGPT-Vision form`, {
        hint: 'User and assistant take turns, the user first and last; there is no system message.',
      })
    }
    return messages.flatMap((message, index) =>
      message.role === 'user'
        ? this.#userTurn(message, index === messages.length - 1)
        : this.#tokenizer.encode(`<|assistant|>\n${textOf(message)} \n`),
    )
  }

  #userTurn(message: Message, last: boolean): number[] {
    const images = imagesOf(message)
    const text = ['<image>', '<s>', '</s>'].reduce((rest, mark) => rest.replaceAll(mark, ''), textOf(message))
    // `<im<s>age>` becomes an image token only by the removal.
    refuseToken(text, '<image>')
    const turn = `${'<image>\n'.repeat(images)}${text}`.replace(outerSpace, '')
    return `<|user|>\n${turn}\n${last ? '<|assistant|>\n' : ''}`.split('<image>').flatMap((chunk, index) => {
      const ids = this.#tokenizer.encode(chunk)
      return index === 0 ? ids : [this.#imageTokenId, ...ids]
    })
  }
}

function textOf({ content }: Message): string {
  return typeof content === 'string' ? content : content.map((item) => (item.type === 'text' ? item.text : '')).join('')
}

function imagesOf({ content }: Message): number {
  return typeof content === 'string' ? 0 : content.filter((item) => item.type === 'image').length
}

function refuseToken(text: string, token: string): void {
  // A model without the token cannot mistake a text for it.
  if (token === '' || !text.includes(token)) return
  throw new DataError(`The text holds the model's image token ${token}: ${JSON.stringify(text.slice(0, 80))}`, {
    detail: { token },
    hint: 'Remove it: images are listed in the record, not written in its text.',
  })
}
