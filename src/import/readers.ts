/**
 * Files as streams of rows, so that memory does not grow with a file. What damages a whole file (bytes that are not text,
 * broken JSON, an open quote) is an error with file and line; what concerns one record is left to the caller.
 */
import { readCsv } from './csv.js'
import type { Row } from './draft.js'
import { readJsonFile, readJsonLines } from './json.js'
import { readParquet } from './parquet.js'

/** The rows of a file, by its extension. */
export function readRows(file: string): AsyncIterable<Row> {
  const extension = file.slice(file.lastIndexOf('.') + 1).toLowerCase()
  if (extension === 'parquet') return readParquet(file)
  if (extension === 'csv' || extension === 'tsv') return readCsv(file)
  return extension === 'json' ? readJsonFile(file) : readJsonLines(file)
}
