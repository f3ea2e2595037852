/**
 * A byte-level BPE tokenizer read from a model folder, with what the library leaves out: the characters that each token
 * covers, and decoding that can be fed token by token.
 */
import { Tokenizer as BpeTokenizer } from '@huggingface/tokenizers'
import { DataError, ModelError } from '../errors.js'
import { checkOptions } from '../options.js'
import { bounded } from './bounded.js'
import { readDefinition } from './definition.js'
import { alignNormalized, type Range } from './normalize.js'

/** Token ids [n] of a text, and the characters that each covers [n]. */
export interface Encoding {
  ids: number[]
  /**
   * Characters of the text each token covers. A token with part of a multi-byte character covers that character whole,
   * so neighbouring ranges may overlap there.
   */
  offsets: Range[]
}

/** What each id below the size of a vocabulary adds to a text: id t bytes[offsets[t], offsets[t + 1]). */
export interface ByteTable {
  bytes: Uint8Array
  offsets: Int32Array
}

/** For the tables of a tokenizer, and for a text; published ones take seconds and milliseconds. */
const loadSeconds = 30
const encodeSeconds = 10

/** Byte-level BPE, as Qwen, Llama 3 and GPT-2 have it. It has no state: one may serve any number of texts. */
export class Tokenizer {
  readonly #bpe: BpeTokenizer
  readonly #added: Map<number, { content: string; special: boolean }>
  readonly #path: string
  #byteTable: ByteTable | undefined

  /**
   * @param definition the parsed `tokenizer.json`; @param config the parsed `tokenizer_config.json`.
   * @param path the file, for messages.
   */
  constructor(definition: object, config: object, path = 'tokenizer.json') {
    this.#path = path
    this.#bpe = new BpeTokenizer(definition, config)
    this.#added = this.#bpe.get_added_tokens_decoder()
  }

  /** Reads the tokenizer of a model folder (see `readDefinition`). @throws {ModelError} naming the file. */
  static async load(folder: string): Promise<Tokenizer> {
    const { path, definition, config } = await readDefinition(folder)
    const tokenizer = bounded(
      loadSeconds,
      () => new Tokenizer(definition, config, path),
      (reason, cause) => unusable(path, `defines no tokenizer that can be used: ${reason}`, cause),
    )
    // Some settings of a wrong type show only when a text is cut.
    tokenizer.encode('a b')
    return tokenizer
  }

  /**
   * Token ids of a text; special tokens written out in it are recognised, none is added.
   * @throws {ModelError} when a pattern of the tokenizer does not come to an end on it.
   */
  encode(text: string): number[] {
    return text === '' ? [] : this.#cut(text, () => this.#bpe.encode(text, { add_special_tokens: false }).ids)
  }

  /**
   * Token ids with the characters of `text` they cover, also where normalisation (NFC) changes lengths.
   * @throws {DataError} when the tokens do not spell the text, as with a tokenizer that is not byte-level.
   */
  encodeWithOffsets(text: string): Encoding {
    const ids = this.encode(text)
    const alignment = this.#cut(text, () => alignNormalized(text, this.#bpe.normalizer))
    const pieces = ids.map((id) => this.bytesOf(id))
    const spelled = Buffer.concat(pieces)
    if (!spelled.equals(Buffer.from(alignment.normalized, 'utf8'))) {
      throw new DataError(`The tokens do not spell the text ${JSON.stringify(text.slice(0, 80))}`, {
        hint: 'Phrase masks need a byte-level BPE tokenizer without a prefix space.',
      })
    }
    const characters = characterOfByte(alignment.normalized, spelled.length)
    let byte = 0
    const offsets = pieces.map((piece): Range => {
      const first = characters.start[byte]
      byte += piece.length
      return alignment.toSource([first, characters.end[byte - 1]])
    })
    return { ids, offsets }
  }

  /** The text of token ids; bytes that are not UTF-8 become U+FFFD. `skipSpecial` leaves special tokens out. */
  decode(ids: Iterable<number>, options: { skipSpecial?: boolean } = {}): string {
    checkOptions('Tokenizer.decode', options, { skipSpecial: true })
    const decoder = this.decoder(options)
    let text = ''
    for (const id of ids) text += decoder.push(id)
    return text + decoder.end()
  }

  /** Decodes a stream of tokens; a character split over tokens comes out with its last one. */
  decoder(options: { skipSpecial?: boolean } = {}): { push(id: number): string; end(): string } {
    checkOptions('Tokenizer.decoder', options, { skipSpecial: true })
    const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })
    return {
      push: (id) =>
        options.skipSpecial && this.#added.get(id)?.special ? '' : utf8.decode(this.bytesOf(id), { stream: true }),
      end: () => utf8.decode(),
    }
  }

  /**
   * The id of a token, added tokens included.
   * @throws {ModelError} when the vocabulary has no such token.
   */
  tokenId(token: string): number {
    const id = this.#bpe.token_to_id(token)
    if (id === undefined) throw new ModelError(`The tokenizer has no token ${JSON.stringify(token)}`)
    return id
  }

  /** Whether the vocabulary, added tokens included, has this token. */
  hasToken(token: string): boolean {
    return this.#bpe.token_to_id(token) !== undefined
  }

  /** The bytes a token stands for: UTF-8 of an added token's text, the byte alphabet undone for any other. */
  bytesOf(id: number): Uint8Array {
    const added = this.#added.get(id)
    if (added) return Buffer.from(added.content, 'utf8')
    const token = this.#bpe.id_to_token(id)
    // Ids between the vocabulary and the padded embedding table stand for nothing.
    if (token === undefined) return new Uint8Array(0)
    return Uint8Array.from([...token], (character) => {
      const byte = byteOfCharacter.get(character)
      if (byte === undefined) throw new ModelError(`Token ${id} (${JSON.stringify(token)}) is not byte-level BPE`)
      return byte
    })
  }

  #cut<T>(text: string, work: () => T): T {
    return bounded(encodeSeconds, work, (reason, cause) =>
      unusable(this.#path, `cannot cut the text ${JSON.stringify(text.slice(0, 80))}: ${reason}`, cause),
    )
  }

  /** The bytes of all tokens, those of added ones left out as decoding with `skipSpecial` does; made once. */
  byteTable(vocabSize: number): ByteTable {
    if (this.#byteTable?.offsets.length === vocabSize + 1) return this.#byteTable
    const offsets = new Int32Array(vocabSize + 1)
    const pieces = Array.from({ length: vocabSize }, (_, id) => {
      const piece = this.#added.has(id) ? new Uint8Array(0) : this.bytesOf(id)
      offsets[id + 1] = offsets[id] + piece.length
      return piece
    })
    this.#byteTable = { bytes: Buffer.concat(pieces), offsets }
    return this.#byteTable
  }
}

function unusable(path: string, problem: string, cause: unknown): ModelError {
  const hint = 'Take tokenizer.json and tokenizer_config.json from the published model.'
  return new ModelError(`${path} ${problem}`, { detail: { path }, hint, cause })
}

/** For each UTF-8 byte of a text: start and end, in UTF-16 units, of the character it belongs to. */
function characterOfByte(text: string, bytes: number): { start: Uint32Array; end: Uint32Array } {
  const start = new Uint32Array(bytes)
  const end = new Uint32Array(bytes)
  let byte = 0
  let unit = 0
  for (const character of text) {
    const width = utf8Length(character.codePointAt(0) as number)
    start.fill(unit, byte, byte + width)
    unit += character.length
    end.fill(unit, byte, byte + width)
    byte += width
  }
  return { start, end }
}

function utf8Length(codePoint: number): number {
  if (codePoint < 0x80) return 1
  if (codePoint < 0x800) return 2
  return codePoint < 0x10000 ? 3 : 4
}

/**
 * The byte-level alphabet of GPT-2: printable Latin-1 bytes stand for themselves, the other 68 for the characters from
 * U+0100 on, in order.
 */
const byteOfCharacter = ((): ReadonlyMap<string, number> => {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
  const map = new Map<string, number>()
  let next = 0x100
  for (let byte = 0; byte < 256; byte += 1) {
    map.set(String.fromCharCode(printable(byte) ? byte : next), byte)
    if (!printable(byte)) next += 1
  }
  return map
})()
