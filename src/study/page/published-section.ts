/** The rows of the paper that arms stand for, grey: other model, other data, one run. */
import { drawValue, type Published, type PublishedValue, readPublished } from '../../evaluate/page/published.js'
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { type Html, html } from '../../page/html.js'
import { wilson } from '../../statistics/index.js'
import type { ArmResults } from '../results.js'
import { armsOfTable } from './finished.js'
import type { SectionInput } from './section.js'
import { withMean } from './words.js'

/** What is printed of a row, where the table has it. */
const measures = {
  slakeClosed: 'SLAKE closed',
  slakeOpen: 'SLAKE open',
  slake: 'SLAKE',
  radClosed: 'VQA-RAD closed',
  radOpen: 'VQA-RAD open',
  vqaRad: 'VQA-RAD',
  green: 'GREEN',
  average: 'average',
} as const
type Measure = keyof typeof measures
const names = Object.keys(measures) as Measure[]

/** Those that a page shows; the CSV has all. */
const shownMeasures: readonly Measure[] = ['slake', 'vqaRad', 'green', 'average']

/** A row of a published table. */
export interface PublishedRow {
  table: string
  row: string
  model: string
  /** What the study file adds to the key: under which reading. */
  note: string
  values: Partial<Record<Measure, PublishedValue>>
  /** Rows of the main table with the same numbers, as `MODEL/ROW`. */
  sameNumbersAs: string[]
}

/** A row, and those that print the same numbers. */
export interface PublishedRun extends PublishedRow {
  others: PublishedRow[]
}

export function publishedSection({ results, table }: SectionInput): Section | null {
  const published = readPublished()
  const rows = armsOfTable(results, table).flatMap((arm) => {
    const found = runsOf(publishedRows(arm.row, published))
    return found.length === 0 ? [] : [{ arm, of: null }, ...found.map((of) => ({ arm, of }))]
  })
  const shown = tableOf<{ arm: ArmResults; of: PublishedRun | null }>({
    name: 'published',
    rows,
    columns: [
      { label: 'row', show: ({ arm, of }) => (of ? nameOf(of) : html`<b>${arm.name}</b>`) },
      {
        label: 'this study, all questions, %',
        show: ({ arm, of }) => !of && withMean(arm.means.overall),
      },
      ...shownMeasures.map((measure) => ({
        label: `${measures[measure]}, %`,
        show: ({ of }: { of: PublishedRun | null }) => {
          const value = of?.values[measure]
          return value ? drawValue(value, true) : of !== null && html`<span class="published">–</span>`
        },
      })),
    ],
    data: ({ arm, of }) => ({
      ...{ arm: arm.name, source: of ? 'published' : 'this study', model: of?.model ?? '' },
      rows: of ? [of, ...of.others].map(keyOf).join('; ') : '',
      sameNumbersAs: of?.sameNumbersAs.join('; ') ?? '',
      overall: of ? null : percentOf(arm.means.overall?.value),
      ...Object.fromEntries(names.flatMap((measure) => cellsOf(measure, of?.values[measure]))),
    }),
  })
  if (!shown) return null
  const title = 'Published rows'
  return {
    title,
    tables: present(shown),
    html: html`<h2>${title}</h2>
      <p class="note"><b>Other model, other data, one run.</b> Grey rows are printed percentages (${published.source}), with the count that they come from,
      recovered, and its Wilson interval; “no count” marks a value that no k of n gives. Nothing here is tested against them. Rows of several tables with the same
      numbers are one run under several names.</p>
      ${shown.html}`,
  }
}

const percentOf = (share: number | undefined): number | null => (share === undefined ? null : 100 * share)

const cellsOf = (measure: Measure, value: PublishedValue | undefined): [string, number | null][] =>
  (['value', 'successes', 'count', 'low', 'high'] as const).map((part) => [`${measure}_${part}`, value?.[part] ?? null])

const keyOf = ({ table, row, note }: PublishedRow): string => `${table}/${row}${note && ` (${note})`}`

function nameOf({ model, others, sameNumbersAs, ...row }: PublishedRun): Html {
  const also = others.length > 0 ? others.map((other) => keyOf(other)) : sameNumbersAs
  return html`<span class="published">${keyOf({ ...row, model, sameNumbersAs })} <small>${model}</small>
    ${also.length > 0 && html`<small>same numbers: ${also.join(', ')}</small>`}</span>`
}

/** Rows of other tables that repeat a row of the main table are put to it. */
function runsOf(rows: readonly PublishedRow[]): PublishedRun[] {
  const runs: PublishedRun[] = []
  for (const row of rows) {
    const same = runs.find((run) => run.table === 'main' && row.sameNumbersAs.includes(`${run.model}/${run.row}`))
    if (same) same.others.push(row)
    else runs.push({ ...row, others: [] })
  }
  return runs
}

/**
 * The rows that an arm names: `TABLE/ROW` keys of models/published.json, several with `;` between them, each with a note in brackets where
 * the paper can be read in two ways: `main/rrpo; kl/without reverse KL (γ = 0)`. Words that are no key give no row.
 */
export function publishedRows(keys: string | null, published: Published): PublishedRow[] {
  return (keys ?? '').split(';').flatMap((each) => {
    const [, table, row, note = ''] = /^\s*([^/]+)\/(.*?)\s*(?:\((.*)\))?\s*$/.exec(each) ?? []
    if (table === undefined) return []
    if (table === 'main') return mainRows(row, note, published)
    const rows = table === 'pairs' ? published.pairConstruction : published.ablations[table]
    const found = rows && Object.hasOwn(rows, row) ? rows[row] : undefined
    if (!found) return []
    const values = Object.fromEntries(
      names.flatMap((measure) => {
        const value = found[measure] ?? found[measure.replace(/^rad/, 'vqaRad')]
        return typeof value === 'number' ? [[measure, counted(value, countOf(measure, published))]] : []
      }),
    )
    const model = Object.keys(published.main)[0]
    return [{ table, row, model, note, values, sameNumbersAs: found.sameNumbersAs }]
  })
}

function mainRows(row: string, note: string, { main }: Published): PublishedRow[] {
  return Object.entries(main).flatMap(([model, rows]) =>
    Object.hasOwn(rows, row) ? [{ table: 'main', row, model, note, values: rows[row], sameNumbersAs: [] }] : [],
  )
}

/** Questions behind a share; undefined for means. */
function countOf(measure: Measure, { denominators: n }: Published): number | undefined {
  if (measure === 'slake') return n.slakeClosed + n.slakeOpen
  if (measure === 'vqaRad') return n.radClosed + n.radOpen
  return measure === 'green' || measure === 'average' ? undefined : n[measure]
}

/** The k of n that prints as the value, rounded or cut to two digits. */
function counted(value: number, count: number | undefined): PublishedValue {
  if (count === undefined) return { value }
  const successes = Math.round((value * count) / 100)
  const { low, high } = wilson(successes, count)
  const isIt = Math.abs((100 * successes) / count - value) < 0.0101
  return { value, count, successes: isIt ? successes : null, low: 100 * low, high: 100 * high }
}
