/** Numbers and tables for the terminal. */
import { forTerminal } from '../terminal.js'

/** Rows under headers, columns aligned; a cell that is a number is set to the right. */
export function formatTable(headers: string[], rows: (string | number)[][]): string {
  const cells = rows.map((row) => row.map(String))
  const widths = headers.map((header, column) => Math.max(header.length, ...cells.map((row) => row[column].length)))
  const line = (row: string[], isRight: (column: number) => boolean): string =>
    row
      .map((cell, column) => (isRight(column) ? cell.padStart(widths[column]) : cell.padEnd(widths[column])))
      .join('  ')
      .trimEnd()
  const numeric = (column: number): boolean => rows.every((row) => typeof row[column] === 'number')
  return [
    line(headers, numeric),
    line(
      widths.map((width) => '-'.repeat(width)),
      () => false,
    ),
    ...cells.map((row) => line(row, numeric)),
  ].join('\n')
}

/** `1536` as `1.5 KiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  const power = bytes > 0 ? Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10)) : 0
  return power === 0 ? `${bytes} B` : `${(bytes / 1024 ** power).toFixed(1)} ${units[power]}`
}

/** `0.625` as `62.5 %`. */
export const formatShare = (share: number): string => `${(100 * share).toFixed(1)} %`

/** Thousands apart: `1 234 567`. */
export function formatCount(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ' ')
}

/** Three significant digits, as `1.23e-5`; `-` where there is no value. */
export function formatDifference(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? '-' : String(value)
  return value === 0 ? '0' : value.toExponential(2)
}

/** What comes from records, in one line. */
export const oneLine = (text: string): string => forTerminal(text.replaceAll('\n', '⏎')).replaceAll('\t', '\\u0009')
