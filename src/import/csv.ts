/**
 * CSV as it comes from spreadsheets and from pandas: `,` `;` or tab, a `sep=` line, a byte-order mark, an index column
 * without a name, inch signs. What can only be read one way is read and noted; a quote that could swallow records is an error.
 */
import type { DataError } from '../errors.js'
import { LeftOut, type Row } from './draft.js'
import { damaged, longestRecord, mostFields, textOf, tooLong } from './text-file.js'

interface CsvRecord {
  cells: string[]
  /** Line it starts on. */
  line: number
  notes: string[]
}

/** Rows as objects by header, values as texts. */
export async function* readCsv(file: string): AsyncGenerator<Row> {
  let header: string[] | undefined
  let index = 0
  for await (const { cells, line, notes } of records(file)) {
    if (header === undefined) header = checkHeader(cells, file, line)
    else {
      yield { file, line, index, value: namedColumns(header, cells, notes), notes }
      index += 1
    }
  }
  if (header === undefined) throw damaged(file, 1, 'the file has no header')
}

/** Columns without a name become ''. */
function checkHeader(cells: string[], file: string, line: number): string[] {
  const header = cells.map((name) => name.trim())
  if (header.length > mostFields) {
    throw damaged(
      file,
      line,
      `${header.length} columns; at most ${mostFields} are read`,
      undefined,
      'Drop those that are no texts.',
    )
  }
  const seen = new Set<string>()
  for (const name of header) {
    if (name !== '' && seen.has(name)) {
      throw damaged(file, line, `the header has "${name}" twice`, undefined, 'Give each column a name of its own.')
    }
    seen.add(name)
  }
  return header
}

/** An object, or the reason why this row is none. The index column of pandas and the end of a row with `;` have no name. */
function namedColumns(header: string[], cells: string[], notes: string[]): unknown {
  const ends = cells.length === header.length + 1 && cells.at(-1) === ''
  if (cells.length !== header.length && !ends) {
    return new LeftOut('wrong_columns', `${cells.length} columns where the header has ${header.length}`)
  }
  const named: [string, string][] = []
  let dropped = false
  for (const [at, name] of header.entries()) {
    if (name !== '') named.push([name, cells[at]])
    else dropped ||= cells[at].trim() !== ''
  }
  if (dropped) notes.push('unnamed_column_dropped')
  return Object.fromEntries(named)
}

/** The records of a file that are not blank, the header first. */
async function* records(file: string): AsyncGenerator<CsvRecord> {
  let form: Form | undefined
  let text = ''
  let line = 1
  /** A record that did not end in the text is tried again when there is twice as much. */
  let enough = 0
  for await (const chunk of textOf(file)) {
    text += chunk
    if (text.length < enough && text.length <= longestRecord) continue
    if (form === undefined) {
      form = formOf(text)
      text = text.slice(form.start)
      line = form.start > 0 ? 2 : 1
    }
    const rest = yield* split(text, line, form, file, false)
    text = text.slice(rest.from)
    line = rest.line
    enough = 2 * text.length
    if (text.length > longestRecord) throw tooLong(file, line)
  }
  if (form) yield* split(text, line, form, file, true)
}

interface Form {
  separator: string
  lineEnd: string
  /** Where the header starts: behind the line `sep=;` that spreadsheets write. */
  start: number
}

/** By the first line; the separator is the commonest there of `,` `;` and tab. */
function formOf(text: string): Form {
  const lineEnd = text.includes('\n') || !text.includes('\r') ? '\n' : '\r'
  const [line, separator] = /^sep=(.)\r?[\r\n]/i.exec(text) ?? []
  if (line !== undefined) return { separator, lineEnd, start: line.length }
  const [header] = text.split(/[\r\n]/, 1)
  const count = (mark: string): number => header.split(mark).length
  const commonest = [',', ';', '\t'].reduce((best, mark) => (count(mark) > count(best) ? mark : best))
  return { separator: commonest, lineEnd, start: 0 }
}

/** The records that end in a text; returns where the first that does not begins. */
function* split(
  text: string,
  firstLine: number,
  { separator, lineEnd }: Form,
  file: string,
  isLast: boolean,
): Generator<CsvRecord, { from: number; line: number }> {
  let line = firstLine
  let from = 0
  /** The next separator and the next line end: each is looked for once. */
  const next = { [separator]: -1, [lineEnd]: -1 }
  const find = (mark: string, at: number): number => {
    if (next[mark] < at) {
      const found = text.indexOf(mark, at)
      next[mark] = found < 0 ? text.length : found
    }
    return next[mark]
  }
  while (from < text.length) {
    const record: CsvRecord = { cells: [], line, notes: [] }
    let at = from
    let lines = 1
    let quoted = false
    for (let open = true; open; ) {
      const cell = text[at] === '"' ? quotedCell(text, at, { separator, lineEnd, isLast }) : undefined
      const end = cell?.end ?? Math.min(find(separator, at), find(lineEnd, at))
      if (cell?.problem !== undefined && (isLast || cell.end < text.length)) {
        throw badQuote(file, line + lines - 1, cell.problem)
      }
      if (end >= text.length && !isLast) return { from, line }
      const value = cell?.value ?? text.slice(at, end)
      if (cell) {
        quoted = true
        lines += value.split(lineEnd).length - 1
        if (cell.stray) record.notes.push('stray_quote')
      }
      open = text[end] === separator
      record.cells.push(open || cell || !value.endsWith('\r') ? value : value.slice(0, -1))
      // A line end of two characters behind a quote.
      at = end + (text[end] === '\r' && lineEnd === '\n' ? 2 : 1)
    }
    if (quoted || record.cells.length > 1 || record.cells[0] !== '') yield record
    line += lines
    from = at
  }
  return { from, line }
}

interface Quoted {
  value: string
  /** Index behind the closing quote. */
  end: number
  /** A quote inside that is not written twice. */
  stray: boolean
  problem?: string
}

/** A cell in quotes. A quote that no separator follows is part of the text, if the cell ends on its line. */
function quotedCell(
  text: string,
  start: number,
  { separator, lineEnd, isLast }: { separator: string; lineEnd: string; isLast: boolean },
): Quoted {
  let stray = false
  let isLong = false
  let seen = start
  for (let at = text.indexOf('"', start + 1); at >= 0; at = text.indexOf('"', at + 1)) {
    const after = text[at + 1]
    if (!isLast && (after === undefined || (after === '\r' && text[at + 2] === undefined))) break
    if (after === '"') {
      at += 1
      continue
    }
    const ends =
      after === undefined || after === separator || after === lineEnd || (after === '\r' && text[at + 2] === lineEnd)
    isLong ||= text.slice(seen, at).includes(lineEnd)
    seen = at
    if (ends || isLong) {
      const problem = isLong && (stray || !ends) ? 'a quote inside a quote over several lines' : undefined
      return { value: text.slice(start + 1, at).replaceAll('""', '"'), end: at + 1, stray, problem }
    }
    stray = true
  }
  return { value: '', end: text.length, stray, problem: 'a quote is not closed' }
}

function badQuote(file: string, line: number, problem: string): DataError {
  const hint = 'A quote inside a cell is written twice, and the cell stands in quotes: "a 5"" tube".'
  return damaged(file, line, `not valid CSV (${problem})`, undefined, hint)
}
