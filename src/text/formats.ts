/** How a conversation becomes prompt tokens: a model's own Jinja template, or HuatuoGPT-Vision's fixed format. */
import { Template } from '@huggingface/jinja'
import { DataError, guarded, ModelError, UnsupportedError } from '../errors.js'
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

/** Renders the template of the model folder and tokenises the whole. */
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
    this.#template = this.#guarded('cannot be read', () => new Template(source))
    this.#specials = specials
    this.#imageToken = tokenizer.decode([imageTokenId])
  }

  encode(messages: readonly Message[]): number[] {
    for (const message of messages) refuseToken(textOf(message), this.#imageToken)
    const values = { ...this.#specials, messages: [...messages], add_generation_prompt: true }
    return this.#tokenizer.encode(this.#guarded('refuses the messages', () => this.#template.render(values)))
  }

  #guarded<T>(problem: string, work: () => T): T {
    const path = this.#path
    return guarded(work, (reason, cause) => {
      const hint = 'Correct the template, or put one that takes a single user turn into chat_template.jinja beside it.'
      return new ModelError(`The chat template of ${path} ${problem}: ${reason}`, { detail: { path }, hint, cause })
    })
  }
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
