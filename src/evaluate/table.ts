/** Rows of JSON Lines and CSV files whose columns other programs chose. */
import { createReadStream } from 'node:fs'
import { extname } from 'node:path'
// A streaming reader of CSV that knows quotes, line ends and byte order marks; `import` reads its tables with it too.
import { parse } from 'csv-parse'
import { placeOf, scanJsonl } from '../data/jsonl.js'
import { DataError, fileError } from '../errors.js'

/** A row and the line that it ends on. */
export interface TableRow {
  line: number
  row: Record<string, unknown>
}

/**
 * The rows of a file, CSV by its name and else JSON Lines.
 * @throws {DataError} for what is neither, with file and line.
 */
export function tableRows(path: string): AsyncGenerator<TableRow> {
  return extname(path).toLowerCase() === '.csv' ? csvRows(path) : jsonRows(path)
}

async function* jsonRows(path: string): AsyncGenerator<TableRow> {
  for await (const scanned of scanJsonl(path)) {
    const { line } = scanned
    const value = scanned.problem === undefined ? scanned.value : undefined
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      const problem = scanned.problem ?? 'expected an object'
      throw new DataError(`${placeOf(path, line)}: ${problem}`, { detail: { path, line } })
    }
    yield { line, row: value as Record<string, unknown> }
  }
}

async function* csvRows(path: string): AsyncGenerator<TableRow> {
  const file = createReadStream(path)
  const rows = file.pipe(parse({ columns: true, bom: true, info: true, skip_empty_lines: true }))
  file.on('error', (error) => rows.destroy(error))
  try {
    for await (const { record, info } of rows) yield { line: info.lines, row: record }
  } catch (error) {
    if (error instanceof DataError) throw error
    if ((error as NodeJS.ErrnoException).syscall) throw fileError(error, 'Reading', path)
    throw new DataError(`${path}: ${(error as Error).message}`, { detail: { path }, cause: error })
  }
}
