/** JSON Lines in, typed records out, each with its line number; a bad line is an error that names file, line and id. */
import { createReadStream } from 'node:fs'
import type { z } from 'zod'
import { DataError, fileError } from '../errors.js'
import { writeFileAtomic } from './files.js'

export interface Line<T> {
  record: T
  /** From 1. */
  line: number
}

/** `file:line: record id` of one record, the start of every message about it. */
export function placeOf(path: string, line: number, id?: unknown): string {
  return `${path}:${line}${typeof id === 'string' ? `: record ${id}` : ''}`
}

/**
 * Streams a file through a schema. Blank lines are passed over; a byte-order mark is accepted.
 * @throws {DataError} at the first line that is not JSON or not a record of this kind.
 * @throws {FileError} when the file cannot be read.
 */
export async function* readJsonl<S extends z.ZodType>(path: string, schema: S): AsyncGenerator<Line<z.output<S>>> {
  for await (const { record: text, line } of readLines(path)) {
    if (text.trim() === '') continue
    const value = parseJson(text, path, line)
    const parsed = schema.safeParse(value)
    if (!parsed.success) {
      const id = (value as { id?: unknown } | null)?.id
      const reasons = parsed.error.issues.map((issue) => {
        const where = issue.path.length > 0 ? `${issue.path.join('.')}: ` : ''
        return `${where}${issue.message}`
      })
      const detail = { path, line, id, issues: parsed.error.issues }
      throw new DataError(`${placeOf(path, line, id)}: ${reasons.join('; ')}`, { detail })
    }
    yield { record: parsed.data, line }
  }
}

/** Writes records to a new file, atomically. */
export async function writeJsonl(path: string, records: Iterable<unknown>): Promise<void> {
  let text = ''
  for (const record of records) text += `${JSON.stringify(record)}\n`
  await writeFileAtomic(path, text)
}

/**
 * Lines end at `\n` and nowhere else: JSON strings may hold U+2028 and U+2029, which `node:readline` breaks lines at.
 * Bytes that are not UTF-8 are refused, not replaced.
 */
async function* readLines(path: string): AsyncGenerator<Line<string>> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let pending: Buffer[] = []
  let line = 0
  const take = (): string => {
    line += 1
    const bytes = Buffer.concat(pending)
    pending = []
    try {
      return decoder.decode(bytes)
    } catch (error) {
      throw new DataError(`${placeOf(path, line)}: the bytes are not UTF-8`, { detail: { path, line }, cause: error })
    }
  }
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      let start = 0
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
        pending.push(chunk.subarray(start, end))
        start = end + 1
        yield { record: take(), line }
      }
      if (start < chunk.length) pending.push(chunk.subarray(start))
    }
  } catch (error) {
    throw fileError(error, 'Reading', path)
  }
  if (pending.length > 0) yield { record: take(), line }
}

function parseJson(text: string, path: string, line: number): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new DataError(`${placeOf(path, line)}: not a JSON object (${reason})`, {
      detail: { path, line },
      cause: error,
    })
  }
}
