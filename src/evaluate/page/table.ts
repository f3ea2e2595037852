/** A table, for the eye and for programs. */
import { type Html, html } from '../../page/html.js'
import type { MeanByCluster } from '../../statistics/index.js'
import { type Cell, toCsv } from './csv.js'

/** Markup of a page and the same numbers, unrounded, as CSV. */
export interface Table {
  /** Of the CSV file, without its ending. */
  name: string
  html: Html
  csv: string
}

/** A part of the page. Everything in `html`, its tables among it. */
export interface Section {
  title: string
  html: Html
  tables: Table[]
}

/** What is read in one column. */
export interface Column<Row> {
  label: string
  show: (row: Row) => Html | string | number | null | false
  /** `chart`: its heading stays on telephones, where those of the others stand beside each value. */
  kind?: 'chart' | 'text'
  heading?: Html
}

export interface TableAbout<Row> {
  name: string
  rows: readonly Row[]
  /** The first one names the row. */
  columns: readonly Column<Row>[]
  /** The row's numbers for programs. */
  data: (row: Row) => Record<string, Cell>
  /** Stands above the row where it differs from that of the row before. */
  above?: (row: Row) => string
  /** Few short columns stay a table at any width. */
  isSmall?: boolean
}

/** Null without rows. */
export function tableOf<Row>({ name, rows, columns, data, above, isSmall }: TableAbout<Row>): Table | null {
  if (rows.length === 0) return null
  const shown = columns.filter(({ show }) => rows.some((row) => show(row) !== null))
  const titles = rows.map((row) => above?.(row))
  const head = shown.map(({ label, kind, heading }) => html`<th class="${kind}">${heading ?? label}</th>`)
  const body = rows.map((row, i) => {
    const isNew = titles[i] !== undefined && titles[i] !== titles[i - 1]
    const cells = shown.map(({ label, kind, show }, at) => {
      const cell = show(row)
      const isWhole = typeof cell === 'number' || (typeof cell === 'string' && cell.length < 12)
      const look = kind ?? (isWhole ? 'whole' : undefined)
      // On telephones the heading stands before each value: before none, nothing is said.
      const isNamed = at > 0 && kind !== 'chart' && cell !== null && cell !== false
      return isNamed
        ? html`<td class="${look}" data-label="${label}">${cell}</td>`
        : html`<td class="${look}">${cell}</td>`
    })
    const above = isNew && html`<tr class="above"><td colspan="${shown.length}">${titles[i]}</td></tr>`
    return html`${above}<tr>${cells}</tr>`
  })
  return {
    name,
    html: html`<table class="${isSmall ? 'data few' : 'data'}"><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table>`,
    csv: toCsv(rows.map(data)),
  }
}

/** A mean's columns of a CSV file; empty where there is no mean or no interval. */
export const meanCells = (name: string, mean: MeanByCluster | null | undefined): Record<string, Cell> => ({
  [name]: mean?.value ?? null,
  [`${name}Low`]: mean?.interval?.low ?? null,
  [`${name}High`]: mean?.interval?.high ?? null,
})

/** The tables that there are. */
export const present = (...tables: readonly (Table | null)[]): Table[] => tables.filter((table) => table !== null)
