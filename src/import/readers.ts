/**
 * Files as streams of rows, so that memory does not grow with a file. What damages a whole file (bytes that are not UTF-8,
 * broken JSON, an open quote) is an error with file and line; what concerns one record is left to the caller.
 *
 * Why these libraries: @streamparser/json builds one element at a time and tells where each begins; csv-parse streams
 * quotes that span lines and names what breaks them; hyparquet reads row groups without native code; saxes is strict and
 * has no way to define or fetch entities.
 */
import { createReadStream } from 'node:fs'
import { open, readFile, stat } from 'node:fs/promises'
import { pipeline, Readable } from 'node:stream'
import { JSONParser, TokenType } from '@streamparser/json'
import { parse } from 'csv-parse'
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet'
import { SaxesParser } from 'saxes'
import { z } from 'zod'
import { decodeUtf8, isJson, jsonFault, readJsonl } from '../data/jsonl.js'
import { asFileError, DataError, FireError, fileError, guarded, reasonOf } from '../errors.js'
import { LeftOut, type Row } from './draft.js'

/** Far above any record of text; an unclosed quote must not swallow a disk. */
const longestCsvRecord = 2 ** 26

/** An Open-i report has a few kilobytes. */
const largestXml = 2 ** 22

/** The rows of a file, by its extension. */
export function readRows(file: string): AsyncIterable<Row> {
  const extension = file.slice(file.lastIndexOf('.') + 1).toLowerCase()
  if (extension === 'parquet') return readParquet(file)
  if (extension === 'csv' || extension === 'tsv') return readCsv(file)
  return extension === 'json' ? readJsonFile(file) : readJsonLines(file)
}

/** Many a `.json` file holds JSON Lines: then its first line is a whole object and another follows. */
async function* readJsonFile(file: string): AsyncGenerator<Row> {
  const [first, second] = (await startText(file, 2 ** 20)).split(/\r?\n/, 2)
  yield* first.startsWith('{') && second?.startsWith('{') && isJson(first) ? readJsonLines(file) : readJson(file)
}

async function* readJsonLines(file: string): AsyncGenerator<Row> {
  let index = 0
  for await (const { record, line } of readJsonl(file, z.unknown())) {
    yield { file, line, index, value: record }
    index += 1
  }
}

/** The elements of `[...]`, or of the lists in `{"train": [...], ...}`; @streamparser/json builds one element at a time. */
async function* readJson(file: string): AsyncGenerator<Row> {
  const [start] = await startText(file, 4096)
  if (start !== '[' && start !== '{') throw damaged(file, 1, 'the file holds neither a list nor an object')
  const level = start === '[' ? 1 : 2
  const parser = new JSONParser({ paths: [level === 1 ? '$.*' : '$.*.*'], keepStack: false })
  const cursor = new LineCursor()
  let rows: Row[] = []
  let depth = 0
  let index = 0
  let line = 1
  parser.onToken = ({ token, offset }) => {
    cursor.offset = offset
    const closes = token === TokenType.RIGHT_BRACE || token === TokenType.RIGHT_BRACKET
    if (closes) depth -= 1
    else if (depth === level && token !== TokenType.COMMA) line = cursor.line()
    if (token === TokenType.LEFT_BRACE || token === TokenType.LEFT_BRACKET) depth += 1
  }
  parser.onValue = ({ value, stack }) => {
    const group = level === 2 ? String(stack[1]?.key) : undefined
    rows.push({ file, line, index, value, ...(group === undefined ? {} : { group }) })
    index += 1
  }
  const refused = (_: string, cause: unknown): DataError =>
    damaged(file, cursor.line(), `not valid JSON, or cut off (${jsonFault(cursor.ahead(), cause)})`, cause)
  for await (const chunk of utf8Chunks(file)) {
    cursor.enter(chunk)
    guarded(() => parser.write(chunk), refused)
    yield* rows
    rows = []
  }
  if (!parser.isEnded) guarded(() => parser.end(), refused)
}

/** Counts lines up to a byte offset of a stream that is seen chunk by chunk. */
class LineCursor {
  offset = 0
  #chunk: Buffer = Buffer.alloc(0)
  #start = 0
  #counted = 0
  #line = 1

  enter(chunk: Buffer): void {
    this.#advance(this.#start + this.#chunk.length)
    this.#start += this.#chunk.length
    this.#chunk = chunk
  }

  line(): number {
    this.#advance(this.offset)
    return this.#line
  }

  /** What follows the offset, as far as a value and its key reach. */
  ahead(): string {
    const from = this.offset - this.#start
    return this.#chunk.toString('utf8', from, from + 64)
  }

  #advance(offset: number): void {
    for (let at = this.#chunk.indexOf(10, this.#counted - this.#start); at >= 0; at = this.#chunk.indexOf(10, at + 1)) {
      if (this.#start + at >= offset) break
      this.#line += 1
      this.#counted = this.#start + at + 1
    }
    this.#counted = Math.max(this.#counted, offset)
  }
}

/** Rows of a CSV as objects by header, values as texts. The separator is the commonest of `,` `;` and tab in the header. */
async function* readCsv(file: string): AsyncGenerator<Row> {
  const parser = parse({
    delimiter: await csvDelimiter(file),
    info: true,
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: longestCsvRecord,
  })
  // The callback keeps a failed source from being an unhandled error; iterating the parser throws it.
  pipeline(Readable.from(utf8Chunks(file)), parser, () => {})
  let header: string[] | undefined
  let line = 1
  let blank = 0
  let index = 0
  try {
    for await (const { record, info } of parser as AsyncIterable<CsvRecord>) {
      line += info.empty_lines - blank
      blank = info.empty_lines
      if (header === undefined) header = checkHeader(record, file)
      else {
        yield { file, line, index, value: namedColumns(header, record) }
        index += 1
      }
      // Counted here: the parser takes a \r\n inside quotes for two lines.
      line += 1 + record.reduce((sum, cell) => sum + cell.split('\n').length - 1, 0)
    }
  } catch (error) {
    if (error instanceof FireError) throw error
    const { code, lines = line } = error as { code?: string; lines?: number }
    const place = code === 'CSV_QUOTE_NOT_CLOSED' ? line : lines
    const hint = 'A quote inside a cell is written twice, and the cell stands in quotes: "a 5"" tube".'
    throw damaged(file, place, `not valid CSV (${reasonOf(error)})`, error, hint)
  }
  if (header === undefined) throw damaged(file, 1, 'the file has no header')
}

function checkHeader(record: string[], file: string): string[] {
  const header = record.map((name) => name.trim())
  const twice = header.find((name, index) => name === '' || header.indexOf(name) !== index)
  if (twice !== undefined)
    throw damaged(file, 1, `the header has ${twice === '' ? 'a column without a name' : `"${twice}" twice`}`)
  return header
}

/** An object, or the reason why this row is none. */
function namedColumns(header: string[], record: string[]): unknown {
  if (record.length !== header.length) {
    return new LeftOut('wrong_columns', `${record.length} columns where the header has ${header.length}`)
  }
  return Object.fromEntries(header.map((name, index) => [name, record[index]]))
}

interface CsvRecord {
  record: string[]
  info: { empty_lines: number }
}

async function csvDelimiter(file: string): Promise<string> {
  const header = (await readStart(file, 65_536)).toString('utf8').split(/\r?\n/, 1)[0]
  const count = (mark: string): number => header.split(mark).length
  return [',', ';', '\t'].reduce((best, mark) => (count(mark) > count(best) ? mark : best))
}

/** One row group at a time: images make groups large, and a group is what the file must be decoded in. */
async function* readParquet(path: string): AsyncGenerator<Row> {
  try {
    const file = await asyncBufferFromFile(path)
    const metadata = await parquetMetadataAsync(file)
    let rowStart = 0
    for (const group of metadata.row_groups) {
      const rowEnd = rowStart + Number(group.num_rows)
      const rows = await parquetReadObjects({ file, metadata, rowStart, rowEnd, utf8: false })
      for (const [at, value] of rows.entries()) {
        yield { file: path, line: rowStart + at + 1, index: rowStart + at, value: withoutBigInts(value) }
      }
      rowStart = rowEnd
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error) throw fileError(error, 'Reading', path)
    throw damaged(path, 1, `not a readable parquet file (${reasonOf(error)})`, error)
  }
}

/** 64-bit columns hold counts and ids; what a number cannot hold becomes its digits. */
function withoutBigInts(value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
  if (Array.isArray(value)) return value.map(withoutBigInts)
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value) || value instanceof Date) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withoutBigInts(item)]))
}

/** An XML element: attributes, text of its own, children. */
export interface Element {
  name: string
  attributes: Record<string, string>
  text: string
  children: Element[]
}

/**
 * The root element of a small XML file. saxes knows the five entities of XML and no others; a document type, where one
 * could define more or name outside files, is refused before it is looked at.
 * @throws {LeftOut} for what is wrong with the file: one report, one file.
 */
export async function readXml(file: string): Promise<Element> {
  const { size } = await stat(file).catch(asFileError('Reading', file))
  if (size > largestXml) throw new LeftOut('invalid_markup', `${size} bytes are no report (at most ${largestXml})`)
  const parser = new SaxesParser({ position: true, xmlns: false })
  const root: Element = { name: '', attributes: {}, text: '', children: [] }
  const open = [root]
  const refuse = (problem: string): never => {
    throw new LeftOut('invalid_markup', `line ${parser.line}: ${problem}`)
  }
  parser.on('doctype', () => refuse('a document type with its entities is not accepted'))
  parser.on('error', (error) => refuse(error.message))
  parser.on('opentag', ({ name, attributes }) => {
    if (open.length > 64) refuse('elements are nested too deep')
    const element: Element = { name, attributes: { ...attributes }, text: '', children: [] }
    open.at(-1)?.children.push(element)
    open.push(element)
  })
  const addText = (text: string): void => {
    const top = open.at(-1)
    if (top) top.text += text
  }
  parser.on('text', addText)
  parser.on('cdata', addText)
  parser.on('closetag', () => {
    open.pop()
  })
  const bytes = await readFile(file).catch(asFileError('Reading', file))
  const text = guarded(
    () => decodeUtf8(bytes),
    () => new LeftOut('invalid_markup', 'the bytes are not UTF-8'),
  )
  parser.write(text).close()
  return root.children[0] ?? refuse('there is no element')
}

/** Chunks of a file without byte-order mark, checked to be UTF-8. */
async function* utf8Chunks(file: string): AsyncGenerator<Buffer> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let offset = 0
  const check = (bytes: Buffer | undefined): void => {
    try {
      decoder.decode(bytes, { stream: bytes !== undefined })
    } catch (error) {
      throw damaged(file, undefined, `the bytes at about ${offset} are not UTF-8`, error, 'Save the file as UTF-8.')
    }
  }
  try {
    for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
      check(chunk)
      const marked = offset === 0 && chunk.subarray(0, 3).equals(byteOrderMark)
      offset += chunk.length
      yield marked ? chunk.subarray(3) : chunk
    }
  } catch (error) {
    throw fileError(error, 'Reading', file)
  }
  check(undefined)
}

const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf])

async function startText(file: string, bytes: number): Promise<string> {
  const text = (await readStart(file, bytes)).toString('utf8')
  return text.replace(/^\ufeff/, '').trimStart()
}

/** The first bytes of a file. */
export async function readStart(file: string, bytes: number): Promise<Buffer> {
  const handle = await open(file).catch(asFileError('Reading', file))
  try {
    const { buffer, bytesRead } = await handle
      .read(Buffer.alloc(bytes), 0, bytes, 0)
      .catch(asFileError('Reading', file))
    return buffer.subarray(0, bytesRead)
  } finally {
    await handle.close()
  }
}

function damaged(path: string, line: number | undefined, problem: string, cause?: unknown, hint?: string): DataError {
  const place = line === undefined ? path : `${path}:${line}`
  return new DataError(`${place}: ${problem}`, {
    detail: { path, line },
    hint: hint ?? 'Compare the size of the file with the published one; nothing was written.',
    cause,
  })
}
