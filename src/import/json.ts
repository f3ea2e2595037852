/**
 * JSON as data sets have it: one object a line, a list, or lists under the names of splits. Records are cut out of the text
 * one by one, so that memory does not grow with a file, and parsed alone.
 */
import { jsonFault } from '../data/jsonl.js'
import { guarded } from '../errors.js'
import { LeftOut, type Row } from './draft.js'
import { damaged, linesOf, longestRecord, mostFields, readStart, textOf, tooLong } from './text-file.js'

/** Deeper than any record; what walks through values must not run out of stack. */
const deepest = 64

/** The rows of a `.json` file; many a one holds JSON Lines. */
export async function* readJsonFile(file: string): AsyncGenerator<Row> {
  yield* (await holdsLines(file)) ? readJsonLines(file) : readJson(file)
}

/** Whether the first line is a whole object, and another follows, or it is a lone record: nothing in it is a list of objects. */
async function holdsLines(file: string): Promise<boolean> {
  if (
    !/^\s*\{/.test(
      (await readStart(file, 4096))
        .toString('latin1')
        .replace(/^(\xef\xbb\xbf|\xff\xfe)/, '')
        .replaceAll('\0', ''),
    )
  )
    return false
  let first: Record<string, unknown> | undefined
  for await (const { text } of linesOf(file)) {
    if (text.trim() === '') continue
    if (first) return text.trimStart().startsWith('{')
    try {
      first = parseRecord(text).value as Record<string, unknown>
    } catch {
      return false
    }
  }
  const isObject = (value: unknown): boolean => value !== null && typeof value === 'object' && !Array.isArray(value)
  const values = Object.values(first ?? {})
  return !values.some((value) => isObject(value) || (Array.isArray(value) && value.some(isObject))) || isRecord(first)
}

/** Conversations are lists of objects too. */
const isRecord = (value: Record<string, unknown> | undefined): boolean =>
  ['question', 'answer', 'prompt', 'chosen', 'messages', 'conversations'].some((key) => value && key in value)

export async function* readJsonLines(file: string): AsyncGenerator<Row> {
  let index = 0
  for await (const { text, line } of linesOf(file)) {
    const record = text.replace(/^\ufeff/, '')
    if (record.trim() === '') continue
    const refused = (_: string, cause: unknown) =>
      damaged(file, line, `not a JSON object (${jsonFault(record, cause)})`, cause)
    yield { file, line, index, ...guarded(() => parseRecord(record), refused) }
    index += 1
  }
}

/** The elements of `[...]`, or of the lists and objects in `{"train": [...], ...}`. */
async function* readJson(file: string): AsyncGenerator<Row> {
  const cutter = new Cutter(file)
  let index = 0
  for await (const chunk of textOf(file)) {
    for (const { text, line, group, keyed } of cutter.take(chunk)) {
      const refused = (_: string, cause: unknown) =>
        damaged(file, line, `not valid JSON, or cut off (${jsonFault(text, cause)})`, cause)
      const parsed = guarded(() => (keyed ? parseMember(text) : parseRecord(text)), refused)
      yield { file, line, index, ...parsed, ...(group !== undefined && { group }) }
      index += 1
    }
  }
  cutter.end()
}

/** `"q1": {...}` of an object that holds records by their names. */
function parseMember(text: string): Parsed & { key: string } {
  const end = endOfString(text, text.indexOf('"') + 1)
  const colon = text.indexOf(':', end)
  return { key: JSON.parse(text.slice(0, end)), ...parseRecord(text.slice(colon + 1)) }
}

interface Piece {
  text: string
  line: number
  /** The name of the list or object it lies in. */
  group?: string
  /** The text is a member `"key": value`, not a value. */
  keyed: boolean
}

const structural = /["[\]{},]/g
const stringStop = /["\\]/g

/**
 * Cuts records out of a text that arrives in chunks. Brackets and strings are all it looks at; records are parsed by the
 * caller, and what lies around them by `end`.
 */
class Cutter {
  readonly #file: string
  /** The file with `0` in place of every record. */
  #frame = ''
  /** Depth at which records lie: 1 in a list, 2 in lists under names; 0 before the first bracket. */
  #level = 0
  #depth = 0
  #inString = false
  #escaped = false
  #pending: string[] = []
  #length = 0
  #chunk = ''
  /** Up to where the chunk is cut, and up to where its lines are counted. */
  #from = 0
  #counted = 0
  #line = 1
  #startLine: number | undefined
  #group: string | undefined
  #keyed = false

  constructor(file: string) {
    this.#file = file
  }

  *take(chunk: string): Generator<Piece> {
    this.#chunk = chunk
    this.#from = 0
    this.#counted = 0
    for (let at = this.#passString(0); at < chunk.length; at = this.#passString(at)) {
      structural.lastIndex = at
      const match = structural.exec(chunk)
      if (!match) break
      at = match.index + 1
      const [mark] = match
      if (mark === '"') {
        this.#startLine ??= this.#lineAt(match.index)
        this.#inString = true
      } else if (mark === '[' || mark === '{') this.#open(mark, match.index)
      else yield* this.#close(mark, match.index)
    }
    this.#keep(chunk.length)
    this.#lineAt(chunk.length)
    if (Math.max(this.#length, this.#frame.length) > longestRecord) {
      throw tooLong(this.#file, this.#startLine ?? this.#line)
    }
  }

  /** @throws {DataError} where the file is cut off, or what lies around its records is no JSON. */
  end(): void {
    const refuse = (reason: string, cause?: unknown) =>
      damaged(this.#file, this.#startLine ?? this.#line, `not valid JSON, or cut off (${reason})`, cause)
    if (this.#level === 0) throw damaged(this.#file, 1, 'the file holds neither a list nor an object')
    if (this.#depth > 0) throw refuse('the file ends inside a list or an object')
    guarded(() => parse(this.#frame + this.#cut(this.#from)), refuse)
  }

  #open(mark: string, index: number): void {
    if (this.#level === 0) this.#level = mark === '[' ? 1 : 2
    if (this.#depth < this.#level) {
      const text = this.#cut(index + 1)
      this.#frame += text
      this.#keyed = mark === '{'
      this.#group = /"((?:[^"\\]|\\.){0,1000})"\s*:\s*.$/.exec(text)?.[1]
    } else this.#startLine ??= this.#lineAt(index)
    this.#depth += 1
  }

  *#close(mark: string, index: number): Generator<Piece> {
    if (this.#depth === 0 && this.#level > 0) {
      throw damaged(this.#file, this.#lineAt(index), `not valid JSON: ${mark} behind the end of the data`)
    }
    if (this.#depth === this.#level) {
      const line = this.#startLine ?? this.#lineAt(index)
      const text = this.#cut(index)
      if (text.trim() !== '') {
        yield { text, line, group: this.#group, keyed: this.#keyed }
        this.#frame += this.#keyed ? '"":0' : '0'
      }
    }
    if (this.#depth <= this.#level) this.#frame += this.#cut(index + 1)
    if (mark !== ',') this.#depth -= 1
  }

  /** What was not cut yet, up to an index of the chunk. */
  #cut(end: number): string {
    this.#keep(end)
    const text = this.#pending.join('')
    this.#pending = []
    this.#length = 0
    this.#startLine = undefined
    return text
  }

  #keep(end: number): void {
    this.#pending.push(this.#chunk.slice(this.#from, end))
    this.#length += end - this.#from
    this.#from = end
  }

  /** Where a string that is open ends in this chunk, else `at`. */
  #passString(at: number): number {
    let from = at
    if (this.#inString && this.#escaped) {
      this.#escaped = false
      from += 1
    }
    while (this.#inString && from < this.#chunk.length) {
      stringStop.lastIndex = from
      const match = stringStop.exec(this.#chunk)
      if (!match) return this.#chunk.length
      from = match.index + 1
      if (match[0] === '"') this.#inString = false
      else if (from === this.#chunk.length) this.#escaped = true
      else from += 1
    }
    return from
  }

  #lineAt(index: number): number {
    for (
      let at = this.#chunk.indexOf('\n', this.#counted);
      at >= 0 && at < index;
      at = this.#chunk.indexOf('\n', at + 1)
    )
      this.#line += 1
    this.#counted = Math.max(this.#counted, index)
    return this.#line
  }
}

interface Parsed {
  /** What the text says, or why it is no record. */
  value: unknown
  notes: string[]
}

/**
 * One record. Python's NaN and Infinity become null, and whole numbers that JavaScript would round become their digits as
 * text: both are noted. Where a field stands twice, nobody knows which is meant.
 * @throws what JSON.parse throws.
 */
export function parseRecord(text: string): Parsed {
  const { value, notes, depth, members } = parse(text)
  if (members > mostFields) {
    return { value: new LeftOut('wrong_columns', `${members} fields; at most ${mostFields} are read`), notes }
  }
  if (depth > deepest) return { value: new LeftOut('wrong_type', `nested deeper than ${deepest} levels`), notes }
  const isObject = value !== null && typeof value === 'object' && !Array.isArray(value)
  if (isObject && Object.keys(value).length !== members) {
    return { value: new LeftOut('duplicate_field', 'a field stands twice in the record'), notes }
  }
  return { value, notes }
}

const tokens = /["[\]{}:]|(?<![\w.])(?:NaN|-?Infinity)\b|(?<![\w.+-])-?\d{16,}(?![\w.])/g

/** JSON with what Python adds to it; `members` are the fields of the outermost object. */
function parse(text: string): Parsed & { depth: number; members: number } {
  const notes = new Set<string>()
  const mended: string[] = []
  let [copied, depth, most, members] = [0, 0, 0, 0]
  tokens.lastIndex = 0
  for (let match = tokens.exec(text); match; match = tokens.exec(text)) {
    const [token] = match
    if (token === '"') tokens.lastIndex = endOfString(text, match.index + 1)
    else if (token === '{' || token === '[') most = Math.max(most, ++depth)
    else if (token === '}' || token === ']') depth -= 1
    else if (token === ':') members += Number(depth === 1)
    else if (!Number.isSafeInteger(Number(token))) {
      const isNumber = /\d/.test(token)
      mended.push(text.slice(copied, match.index), isNumber ? `"${token}"` : 'null')
      copied = tokens.lastIndex
      notes.add(isNumber ? 'large_number_as_text' : 'nan_as_null')
    }
  }
  // What is too deep or too wide is not worth the memory of parsing it.
  const value = most > deepest || members > mostFields ? undefined : JSON.parse(mended.join('') + text.slice(copied))
  return { value, notes: [...notes], depth: most, members }
}

/** The index behind the quote that ends a string; the text's length where none does. */
function endOfString(text: string, from: number): number {
  stringStop.lastIndex = from
  for (let match = stringStop.exec(text); match; match = stringStop.exec(text)) {
    if (match[0] === '"') return match.index + 1
    stringStop.lastIndex = match.index + 2
  }
  return text.length
}
