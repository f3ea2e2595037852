/** Text files as they come: UTF-8 with or without a byte-order mark, UTF-16 with one, any line end. Nothing is guessed. */
import { isUtf8 } from 'node:buffer'
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { asFileError, DataError, FireError, fileError } from '../errors.js'

/** Characters of one record. Far above any record of text or with its images inside; a whole file must not fit in one. */
export const longestRecord = 2 ** 25

/** Fields of one record, and columns of a table. */
export const mostFields = 10_000

const marks: [encoding: string, mark: number[]][] = [
  ['utf-8', [0xef, 0xbb, 0xbf]],
  ['utf-16le', [0xff, 0xfe]],
  ['utf-16be', [0xfe, 0xff]],
]

/** The text of a file, piece by piece. @throws {DataError} with a line where the bytes are no text of the encoding. */
export async function* textOf(file: string): AsyncGenerator<string> {
  const start = await readStart(file, 1024)
  const [encoding] = marks.find(([, mark]) => start.subarray(0, mark.length).equals(Buffer.from(mark))) ?? ['utf-8']
  refuseForeign(file, start, encoding)
  const decoder = new TextDecoder(encoding, { fatal: true })
  let line = 1
  let rest: Buffer = Buffer.alloc(0)
  try {
    for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
      rest = chunk
      const text = decoder.decode(chunk, { stream: true })
      line += text.split('\n').length - 1
      yield text
    }
    yield decoder.decode()
  } catch (error) {
    if (error instanceof FireError) throw error
    if (!(error instanceof TypeError)) throw fileError(error, 'Reading', file)
    throw undecodable(file, line, rest, encoding, error)
  }
}

function undecodable(file: string, line: number, chunk: Buffer, encoding: string, cause: unknown): DataError {
  const lines = chunk.toString('latin1').split('\n')
  const wrong = lines.findIndex((text) => !isUtf8(Buffer.from(text, 'latin1')))
  const name = encoding.toUpperCase()
  return damaged(file, line + Math.max(wrong, 0), `the bytes are not ${name}`, cause, utf8Hint(file, 'WINDOWS-1252'))
}

const utf8Hint = (file: string, encoding: string): string =>
  `Save the file as UTF-8. If it is in ${encoding}: iconv -f ${encoding} -t UTF-8 "${file}" > utf8 (then give it its name).`

/** What is no text of ours, although some of it could be read as one. */
function refuseForeign(file: string, start: Buffer, encoding: string): void {
  if (start.toString('latin1', 0, 43) === 'version https://git-lfs.github.com/spec/v1\n') {
    throw damaged(
      file,
      undefined,
      'a Git LFS pointer stands in place of the file',
      undefined,
      'Fetch it: git lfs pull.',
    )
  }
  if (encoding === 'utf-8' && 4 * start.filter((byte) => byte === 0).length > start.length) {
    const problem = 'every second byte or so is NUL: UTF-16 without a byte-order mark, or no text'
    throw damaged(file, 1, problem, undefined, utf8Hint(file, 'UTF-16LE'))
  }
}

/** Lines without their ends, from 1. Lines end at `\n`: texts may hold U+2028, and `\r` is space to JSON. */
export async function* linesOf(file: string): AsyncGenerator<{ text: string; line: number }> {
  let pending: string[] = []
  let length = 0
  let line = 1
  for await (const chunk of textOf(file)) {
    let from = 0
    for (let at = chunk.indexOf('\n'); at >= 0; at = chunk.indexOf('\n', from)) {
      pending.push(chunk.slice(from, at))
      yield { text: pending.join(''), line }
      pending = []
      length = 0
      line += 1
      from = at + 1
    }
    pending.push(chunk.slice(from))
    length += chunk.length - from
    if (length > longestRecord) throw tooLong(file, line)
  }
  const text = pending.join('')
  if (text !== '') yield { text, line }
}

export function tooLong(file: string, line: number): DataError {
  const hint = 'Put images into files of their own, and one record on a line.'
  return damaged(file, line, `a record of more than ${longestRecord} characters`, undefined, hint)
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

/** What is wrong with a file as a whole. */
export function damaged(
  path: string,
  line: number | undefined,
  problem: string,
  cause?: unknown,
  hint?: string,
): DataError {
  const place = line === undefined ? path : `${path}:${line}`
  return new DataError(`${place}: ${problem}`, {
    detail: { path, line },
    hint: hint ?? 'Compare the size of the file with the published one; nothing was written.',
    cause,
  })
}
