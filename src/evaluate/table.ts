/** Rows of JSON Lines and CSV files whose columns other programs chose. */
import { extname } from 'node:path'
import { placeOf, scanJsonl } from '../data/jsonl.js'
import { DataError } from '../errors.js'
import { readCsv } from '../import/csv.js'

/** A row and the line that it begins on. */
export interface TableRow {
  line: number
  row: Record<string, unknown>
}

/**
 * The rows of a file, CSV or TSV by its name and else JSON Lines.
 * @throws {DataError} for what is neither, with file and line.
 */
export async function* tableRows(path: string): AsyncGenerator<TableRow> {
  if (/^\.[ct]sv$/i.test(extname(path))) {
    for await (const { line, value } of readCsv(path)) yield { line, row: asObject(path, line, value) }
  } else {
    for await (const scanned of scanJsonl(path)) {
      const { line, problem } = scanned
      if (problem !== undefined) throw new DataError(`${placeOf(path, line)}: ${problem}`, { detail: { path, line } })
      yield { line, row: asObject(path, line, scanned.value) }
    }
  }
}

function asObject(path: string, line: number, value: unknown): Record<string, unknown> {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  if (isObject && !(value instanceof Error)) return value as Record<string, unknown>
  const problem = value instanceof Error ? value.message : 'expected an object'
  throw new DataError(`${placeOf(path, line)}: ${problem}`, {
    detail: { path, line },
    hint: value instanceof Error ? 'Put a text with a comma or a line break in it between quotes.' : undefined,
  })
}
