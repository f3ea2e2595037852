/** JSON Lines in, typed records out, each with its line number; a bad line is an error that names file, line and id. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { z } from 'zod'
import { asFileError, DataError, fileError, reasonOf } from '../errors.js'
import { toJson } from '../secrets.js'
import { writeFileAtomic } from './files.js'

/** A record and where it stands. */
export interface Line<T> {
  record: T
  /** From 1. */
  line: number
}

/** `file:line: record id` of one record, the start of every message about it. */
export function placeOf(path: string, line: number, id?: unknown): string {
  return `${path}:${line}${typeof id === 'string' ? `: record ${id}` : ''}`
}

/** A line as it stands: its JSON value, or what keeps it from being one. */
export type ScannedLine = ScannedPlace & ({ value: unknown; problem?: undefined } | { problem: string })

interface ScannedPlace {
  /** From 1. */
  line: number
  /** Bytes of the file up to and including this line. */
  end: number
  /** Whether a line end follows; only the last line may lack it. */
  terminated: boolean
}

/**
 * Streams every line that is not blank, sound or not: for readers that go on after a bad line, or stop before it.
 * @throws {FileError} when the file cannot be read.
 */
export async function* scanJsonl(path: string): AsyncGenerator<ScannedLine> {
  await refusePipe(path)
  for await (const { bytes, ...place } of readLines(path)) {
    let text: string
    try {
      text = decodeUtf8(bytes)
      if (text.trim() === '') continue
    } catch {
      yield { ...place, problem: 'the bytes are not UTF-8' }
      continue
    }
    try {
      yield { ...place, value: JSON.parse(text) }
    } catch (error) {
      yield { ...place, problem: `not a JSON object (${jsonFault(text, error)})` }
    }
  }
}

/** Records are read more than once, and opening a pipe waits for a writer: neither goes with what is no plain file. */
async function refusePipe(path: string): Promise<void> {
  const about = await stat(path).catch(asFileError('Reading', path))
  if (about.isFile() || about.isDirectory()) return
  throw new DataError(`${path} is a pipe or device, not a plain file`, {
    detail: { path },
    hint: 'Write the records to a file first.',
  })
}

/** Why a text is no JSON: what the parser says, or what Python writes and no parser of JSON takes. */
export function jsonFault(text: string, error: unknown): string {
  const [, value] = /[:[,]\s*(NaN|-?Infinity)\b/.exec(text) ?? []
  return value === undefined ? reasonOf(error) : `JSON has no ${value}: write null`
}

/** What a schema finds wrong with a value, in one line. */
export function describeIssues(issues: readonly z.core.$ZodIssue[]): string {
  return issues
    .map(({ path, message }) => (path.length > 0 ? `${path.map(String).join('.')}: ${message}` : message))
    .join('; ')
}

/**
 * Streams a file through a schema. Blank lines are passed over; a byte-order mark is accepted.
 * @throws {DataError} at the first line that is not JSON or not a record of this kind.
 * @throws {FileError} when the file cannot be read.
 */
export async function* readJsonl<S extends z.ZodType>(path: string, schema: S): AsyncGenerator<Line<z.output<S>>> {
  for await (const scanned of scanJsonl(path)) {
    const { line } = scanned
    if (scanned.problem !== undefined) {
      throw new DataError(`${placeOf(path, line)}: ${scanned.problem}`, { detail: { path, line } })
    }
    const parsed = schema.safeParse(scanned.value)
    if (!parsed.success) {
      const id = (scanned.value as { id?: unknown } | null)?.id
      const detail = { path, line, id, issues: parsed.error.issues }
      throw new DataError(`${placeOf(path, line, id)}: ${describeIssues(parsed.error.issues)}`, { detail })
    }
    yield { record: parsed.data, line }
  }
}

/** Writes records to a new file, atomically. */
export async function writeJsonl(path: string, records: Iterable<unknown>): Promise<void> {
  await writeFileAtomic(path, toJsonl(records))
}

/** Records as `writeJsonl` writes them. */
export function toJsonl(records: Iterable<unknown>): string {
  let text = ''
  for (const record of records) text += `${toJson(record)}\n`
  return text
}

const decoder = new TextDecoder('utf-8', { fatal: true })

/** Bytes that are not UTF-8 are refused, not replaced. */
export function decodeUtf8(bytes: Uint8Array): string {
  return decoder.decode(bytes)
}

/** Far above any record; a file without line ends is none of ours, and a JavaScript text has a longest length. */
const longestLine = 2 ** 28

/** Lines end at `\n` and nowhere else: JSON strings may hold U+2028 and U+2029, which `node:readline` breaks lines at. */
async function* readLines(path: string): AsyncGenerator<ScannedPlace & { bytes: Uint8Array }> {
  let pending: Buffer[] = []
  let line = 0
  let end = 0
  let read = 0
  const take = (terminated: boolean): ScannedPlace & { bytes: Uint8Array } => {
    const bytes = Buffer.concat(pending)
    pending = []
    line += 1
    end += bytes.length + Number(terminated)
    return { bytes, line, end, terminated }
  }
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      let start = 0
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, start)) {
        pending.push(chunk.subarray(start, at))
        start = at + 1
        yield take(true)
      }
      if (start < chunk.length) pending.push(chunk.subarray(start))
      read += chunk.length
      if (read - end > longestLine) throw new DataError(`${placeOf(path, line + 1)}: more than ${longestLine} bytes`)
    }
  } catch (error) {
    throw fileError(error, 'Reading', path)
  }
  if (pending.length > 0) yield take(false)
}
