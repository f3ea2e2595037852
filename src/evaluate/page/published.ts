/** Published numbers, grey beside ours: other models, other data, one run. */
import { readFileSync } from 'node:fs'
import { type Html, html } from '../../page/html.js'
import { said } from '../../page/numbers.js'
import { wilson } from '../../statistics/index.js'
import type { EvaluationFolder } from './folder.js'
import { systemName } from './systems.js'
import { present, type Section, type Table, tableOf } from './table.js'
import { decimal } from './words.js'

/** In percent. `successes` is null where no count gives the printed value; means have neither count nor interval. */
export interface PublishedValue {
  value: number
  count?: number
  successes?: number | null
  low?: number
  high?: number
}

/** models/published.json. */
export interface Published {
  source: string
  denominators: Record<Question, number>
  main: Record<string, Record<string, Record<Measure, PublishedValue>>>
  quoted: Record<string, number[]>
  ablations: Record<string, Record<string, OtherRow>>
  pairConstruction: Record<string, OtherRow>
  /** By data set and row of the pair table: mean words of each side and their mean distance; `withinTwo` in percent. */
  styleGap: Record<string, Record<string, Record<'chosen' | 'rejected' | 'difference' | 'withinTwo', number>>>
  notes: string[]
}

/** A row of another table: values in percent by column, and rows that print the same numbers. */
export type OtherRow = Record<string, number | string[] | PublishedValue> & { sameNumbersAs: string[] }

const columns = {
  slakeClosed: { label: 'SLAKE closed', dataset: 'slake', closed: true },
  slakeOpen: { label: 'SLAKE open', dataset: 'slake', closed: false },
  radClosed: { label: 'VQA-RAD closed', dataset: 'vqa-rad', closed: true },
  radOpen: { label: 'VQA-RAD open', dataset: 'vqa-rad', closed: false },
} as const
type Question = keyof typeof columns
type Measure = Question | 'green' | 'precision' | 'recall' | 'average'

const questions = Object.keys(columns) as Question[]
const reportMeasures = ['green', 'precision', 'recall'] as const

/** A row of the table; `system` is null for published ones. */
interface Row {
  model: string
  name: string
  system: string | null
  values: Partial<Record<Measure, PublishedValue>>
}

/** The numbers of the paper that come with the package. */
export const readPublished = (): Published =>
  JSON.parse(readFileSync(new URL('../../../models/published.json', import.meta.url), 'utf8'))

/** Null where no question is of a set that published numbers are of. */
export function publishedSection(folder: EvaluationFolder): Section | null {
  const { results } = folder
  const ours = results.systems.map(({ name }) => ({
    model: 'This evaluation',
    name,
    system: name,
    values: { ...ownAnswers(folder, name), ...ownReports(folder, name) },
  }))
  const measures = [...questions, ...reportMeasures].filter((key) =>
    ours.some(({ values }) => values[key as keyof typeof values] !== undefined),
  )
  if (measures.length === 0) return null
  const published = readPublished()
  const main = mainTable(folder, [...ours, ...publishedRows(published)], measures)
  const others = othersTable(published)
  const title = 'Published numbers'
  return {
    title,
    tables: present(main, others),
    html: html`<h2>${title}</h2>
      <p class="note"><b>Other model, other data, one run.</b> Grey rows are printed percentages (${published.source}) with the count that they come from, recovered, and
      its Wilson interval. “No count” marks a value that no k of n gives. Closed here is paper_substring. Nothing is tested against these rows.</p>
      ${main?.html}
      <details><summary>Other published tables: KL, visual term, corruption, pairs</summary>${others?.html}
      ${published.notes.map((note) => html`<p class="note">${note}</p>`)}</details>`,
  }
}

/** Published numbers are of the English questions. */
function ownAnswers({ verdicts, samples }: EvaluationFolder, system: string): Row['values'] {
  const values: Row['values'] = {}
  for (const key of questions) {
    const { dataset, closed } = columns[key]
    const asked = verdicts.filter(
      (each) =>
        each.system === system &&
        each.k === 0 &&
        each.dataset === dataset &&
        samples.get(each.sampleId)?.language === 'en' &&
        each.closedUnder.paperSubstring === closed,
    )
    if (asked.length === 0) continue
    const right = asked.filter(({ verdict }) => verdict === 'correct').length
    const { value, low, high } = wilson(right, asked.length)
    values[key] = { value: 100 * value, low: 100 * low, high: 100 * high, successes: right, count: asked.length }
  }
  return values
}

/** The paper's precision and recall are shares of reports without errors a and b, unreadable replies counted as without. */
function ownReports({ results, samples, reports }: EvaluationFolder, system: string): Row['values'] {
  const isTheirs = reports.every(({ sampleId }) => samples.get(sampleId)?.dataset === 'iu-xray')
  const green = results.reports?.systems.find((each) => each.system === system)?.green
  if (!isTheirs || !green || green.parity.value === null) return {}
  const { value: mean, interval, count: replies } = green.parity
  const [precision, recall] = green.withoutError.parity.map((share) => {
    const successes = Math.round((share ?? 0) * replies)
    const { value, low, high } = wilson(successes, replies)
    return { value: 100 * value, low: 100 * low, high: 100 * high, successes, count: replies }
  })
  const bounds = interval && { low: 100 * interval.low, high: 100 * interval.high }
  return { green: { value: 100 * mean, ...bounds }, precision, recall }
}

function publishedRows({ main, quoted }: Published): Row[] {
  const own = Object.entries(main).flatMap(([model, rows]) =>
    Object.entries(rows).map(([name, values]): Row => ({ model: `Published, ${model}`, name, system: null, values })),
  )
  const others = Object.entries(quoted).map(([name, values]): Row => {
    const cells = Object.fromEntries(questions.map((key, i) => [key, { value: values[i] }]))
    return { model: 'Published, quoted from other papers', name, system: null, values: cells }
  })
  return [...own, ...others]
}

function mainTable({ results }: EvaluationFolder, rows: readonly Row[], measures: readonly Measure[]): Table | null {
  const labels: Record<Measure, string> = {
    ...(Object.fromEntries(questions.map((key) => [key, columns[key].label])) as Record<Question, string>),
    green: 'GREEN (parity)',
    precision: 'precision (no error a)',
    recall: 'recall (no error b)',
    average: 'average',
  }
  return tableOf<Row>({
    name: 'published',
    rows,
    above: ({ model }) => model,
    columns: [
      {
        label: 'system',
        show: ({ system, name }) =>
          system === null ? html`<span class="published">${name}</span>` : systemName(results, system),
      },
      ...measures.map((key) => ({
        label: `${labels[key]}, %`,
        show: ({ values, system }: Row) => {
          const value = values[key]
          return value ? drawValue(value, system === null) : html`<span class="soft">–</span>`
        },
      })),
    ],
    data: ({ model, name, values }) => ({
      model,
      name,
      ...Object.fromEntries(
        measures.flatMap((key) =>
          (['value', 'successes', 'count', 'low', 'high'] as const).map((part) => [
            `${key}_${part}`,
            values[key]?.[part] ?? null,
          ]),
        ),
      ),
      note: model === 'This evaluation' ? '' : 'other model, other data, one run',
    }),
  })
}

/** A value with its interval and its count; published ones are grey. */
export function drawValue({ value, count, successes, low, high }: PublishedValue, isPublished: boolean): Html {
  const interval = low !== undefined && high !== undefined && `[${decimal(low, 1)}, ${decimal(high, 1)}]`
  const k = count !== undefined && (successes === null ? `no count of ${count}` : `${successes ?? ''} / ${count}`)
  return html`<span class="${isPublished && 'published'}">${decimal(value, isPublished ? 2 : 1)} <small>${interval}${interval && k && ', '}${k}</small></span>`
}

function othersTable({ ablations, pairConstruction }: Published): Table | null {
  const tables = [...Object.entries(ablations), ['pair construction', pairConstruction] as const]
  const rows = tables.flatMap(([table, entries]) =>
    Object.entries(entries).map(([name, row]) => ({ table, name, row })),
  )
  const percentOf = (cell: OtherRow[string]): number =>
    typeof cell === 'number' ? cell : Array.isArray(cell) ? Number.NaN : (cell?.value ?? Number.NaN)
  const keys = ['slakeClosed', 'slakeOpen', 'slake', 'vqaRadClosed', 'vqaRadOpen', 'vqaRad', 'green', 'average']
  return tableOf<(typeof rows)[number]>({
    name: 'published-others',
    rows,
    above: ({ table }) => table,
    columns: [
      { label: 'row', show: ({ name }) => html`<span class="published">${name}</span>` },
      ...keys.map((key) => ({
        label: key,
        show: ({ row }: (typeof rows)[number]) =>
          html`<span class="published">${decimal(percentOf(row[key]), 2)}</span>`,
      })),
      {
        label: 'same numbers as',
        kind: 'text' as const,
        show: ({ row }) =>
          row.sameNumbersAs.length > 0 && html`<span class="published">${said(row.sameNumbersAs.join(', '))}</span>`,
      },
    ],
    data: ({ table, name, row }) => ({
      table,
      name,
      ...Object.fromEntries(keys.map((key) => [key, percentOf(row[key])])),
      sameNumbersAs: row.sameNumbersAs.join(', '),
    }),
  })
}
