/** Tables as CSV: RFC 4180, and no cell that a spreadsheet would run. */

/** NaN and null are empty cells: a number that there is not. */
export type Cell = string | number | null

/** @param rows at least one; the first one's keys are the header. */
export function toCsv(rows: readonly Readonly<Record<string, Cell>>[]): string {
  const header = Object.keys(rows[0])
  const lines = [header, ...rows.map((row) => header.map((key) => row[key] ?? null))]
  return lines.map((cells) => `${cells.map(writeCell).join(',')}\r\n`).join('')
}

function writeCell(cell: Cell): string {
  if (cell === null || typeof cell === 'number') return Number.isFinite(cell) ? String(cell) : ''
  // A spreadsheet takes such a text for a formula, which may ask a server; an apostrophe makes it a text again.
  const text = /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
