/** Training runs beside each other: final numbers, the settings that differ, curves over each other. */
import { type Html, html } from '../../page/html.js'
import { renderPage } from '../../page/page.js'
import { keyOf, settingsOf } from '../../settings/setting.js'
import { duration } from '../../text/duration.js'
import { counted } from '../../text/plural.js'
import type { LogRow } from '../../train/metrics.js'
import { curveOf, drawOverSteps, trend } from '../../train/page/curves.js'
import { figuresOf } from '../../train/page/training-section.js'
import { trainSettings } from '../../train/settings.js'
import type { TrainingRun } from './read.js'

/** The page as HTML text. */
export function renderRuns(title: string, notes: readonly string[], runs: readonly TrainingRun[]): string {
  const content = html`${notes.map((note) => html`<p>${note}</p>`)}
${numbersSection(runs)}
${settingsSection(runs)}
${curvesSection(runs)}`
  return renderPage(title, content, style)
}

const colours = 8

/** Lines of the ninth run and later are dashed. */
const lookOf = (index: number): { stroke: string; strokeDasharray?: string } => ({
  stroke: `var(--run-${(index % colours) + 1})`,
  ...(index >= colours && { strokeDasharray: `${2 + 3 * Math.floor(index / colours)} 3` }),
})

const nameOf = ({ name }: TrainingRun, index: number): Html =>
  html`<svg class="key" viewBox="0 0 22 8" aria-hidden="true"><line x1="0" x2="22" y1="4" y2="4" stroke-width="3" stroke="${lookOf(index).stroke}" stroke-dasharray="${lookOf(index).strokeDasharray ?? ''}"/></svg>${name}`

interface Column {
  label: string
  value: (rows: readonly LogRow[]) => number | undefined
  words?: (value: number) => string
}

/** Of training, where a step is a handful of pairs, the mean over the last tenth of the steps; else the last value. */
const columns: readonly Column[] = [
  ...[
    ['loss', 'loss'],
    ['rewards/margins', 'margin'],
    ['rewards/accuracies', 'reward accuracy'],
    ['rewards/visual/margins', 'visual margin'],
    ['rewards/visual/accuracies', 'visual reward accuracy'],
    ['kl/forward', 'forward KL'],
  ].map(([key, label]) => ({ label, value: (rows: readonly LogRow[]) => endOf(rows, key) })),
  { label: 'tokens a second', value: (rows) => meanOf(valuesOf(rows, 'tokens_per_second')) },
  { label: 'time of the steps', value: (rows) => timeOf(rows), words: duration },
  { label: 'peak memory, MiB', value: (rows) => mebibytes(lastOf(rows, 'peak_host_bytes')) },
]

function heldOutColumns(runs: readonly TrainingRun[]): Column[] {
  const keys = new Set(
    runs.flatMap(({ rows }) => figuresOf(rows)).flatMap(({ series }) => series.map(({ key }) => key)),
  )
  return [...keys]
    .filter((key) => key.startsWith('eval_'))
    .map((key) => ({ label: `held-out ${key.slice('eval_'.length)}`, value: (rows) => lastOf(rows, key) }))
}

function numbersSection(runs: readonly TrainingRun[]): Html {
  const shown = [...columns, ...heldOutColumns(runs)].filter(({ value }) =>
    runs.some(({ rows }) => value(rows) !== undefined),
  )
  const cell = ({ value, words = short }: Column, { rows }: TrainingRun): Html => {
    const number = value(rows)
    return html`<td>${number === undefined ? '–' : words(number)}</td>`
  }
  return html`<section>
  <h2>Final numbers</h2>
  <p class="note">Of training: means over the last tenth of the steps. Of held-out pairs: the last measurement.</p>
  <div class="scroll"><table>
  <thead><tr><th>run</th><th>steps</th>${shown.map(({ label }) => html`<th>${label}</th>`)}</tr></thead>
  <tbody>${runs.map((run, index) => html`<tr><td class="run">${nameOf(run, index)}</td><td>${run.rows.at(-1)?.step ?? 0}${!run.isComplete && html`<small>not complete</small>`}</td>${shown.map((column) => cell(column, run))}</tr>`)}</tbody>
  </table></div>
</section>`
}

/** Where a run writes says nothing of what it does. */
const isTold = (key: string): boolean => key !== 'output'

/** Settings that no result depends on. */
const free: ReadonlySet<string> = new Set(
  settingsOf(trainSettings)
    .filter(({ meta }) => meta.free)
    .map(keyOf),
)

function settingsSection(runs: readonly TrainingRun[]): Html | null {
  if (runs.length < 2) return null
  const keys = [...new Set(runs.flatMap(({ settings }) => [...settings.keys()]))].filter(isTold)
  const unlike = keys.filter((key) => new Set(runs.map(({ settings }) => settings.get(key))).size > 1)
  const decisive = unlike.filter((key) => !free.has(key))
  const others = unlike.filter((key) => free.has(key))
  return html`<section>
  <h2>Settings that differ</h2>
  ${unlike.length === 0 && html`<p>None: the settings of these ${counted(runs.length, 'run')} are the same.</p>`}
  ${decisive.length > 0 && settingsTable(runs, decisive)}
  ${others.length > 0 && html`<p class="note">${decisive.length > 0 ? 'Others' : 'These alone'}, which change no result:</p>${settingsTable(runs, others)}`}
</section>`
}

const settingsTable = (runs: readonly TrainingRun[], keys: readonly string[]): Html =>
  html`<div class="scroll"><table class="settings">
  <thead><tr><th>setting</th>${runs.map((run, index) => html`<th>${nameOf(run, index)}</th>`)}</tr></thead>
  <tbody>${keys.map((key) => html`<tr><td><code>${key}</code></td>${runs.map(({ settings }) => html`<td>${settings.get(key) ?? '–'}</td>`)}</tr>`)}</tbody>
  </table></div>`

function curvesSection(runs: readonly TrainingRun[]): Html | null {
  const rows = runs.flatMap((run) => run.rows)
  const figures = figuresOf(rows).flatMap(({ title, series, ...axis }) => {
    const present = series.filter(({ key }) => rows.some((row) => Number.isFinite(row[key])))
    return present.map(({ key, label }) => ({ ...axis, key, title: present.length > 1 ? `${title}: ${label}` : title }))
  })
  const drawn = figures.flatMap(({ key, title, ...axis }) => {
    const marks = runs.flatMap(({ rows }, index) => {
      const points = curveOf(rows, key)
      return points.length === 0 ? [] : [trend(points, lookOf(index))]
    })
    return marks.length === 0 ? [] : [html`<figure><h3>${title}</h3>${drawOverSteps(marks, axis)}</figure>`]
  })
  if (drawn.length === 0) return null
  return html`<section>
  <h2>Curves</h2>
  <p class="note">Running means over a tenth of the steps.</p>
  <div class="legend">${runs.map((run, index) => html`<span>${nameOf(run, index)}</span>`)}</div>
  <div class="grid">${drawn}</div>
</section>`
}

const valuesOf = (rows: readonly LogRow[], key: string): number[] =>
  rows.flatMap(({ [key]: value }) => (Number.isFinite(value) ? [value] : []))

const lastOf = (rows: readonly LogRow[], key: string): number | undefined => valuesOf(rows, key).at(-1)

const endOf = (rows: readonly LogRow[], key: string): number | undefined => {
  const values = valuesOf(rows, key)
  return meanOf(values.slice(-Math.ceil(values.length / 10)))
}

const meanOf = (values: readonly number[]): number | undefined =>
  values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0) / values.length

function timeOf(rows: readonly LogRow[]): number | undefined {
  const times = [...valuesOf(rows, 'engine_time'), ...valuesOf(rows, 'data_time')]
  return times.length === 0 ? undefined : times.reduce((sum, value) => sum + value, 0)
}

const mebibytes = (bytes: number | undefined): number | undefined => bytes && Math.round(bytes / 2 ** 20)

const short = (value: number): string => String(Number(value.toPrecision(4))).replace('-', '−')

const style = `
:root {
  --run-1: #0f6bd7; --run-2: #c9650a; --run-3: #117a46; --run-4: #9b3fb5;
  --run-5: #b3261e; --run-6: #0b8a93; --run-7: #7a5c00; --run-8: #5a6472;
}
@media (prefers-color-scheme: dark) {
  :root {
    --run-1: #5aa5ff; --run-2: #ffa657; --run-3: #58c98b; --run-4: #d48cec;
    --run-5: #ff8a80; --run-6: #4fd3dc; --run-7: #dcb94a; --run-8: #a3afbd;
  }
}
.scroll { overflow-x: auto; }
.scroll th, .scroll td { overflow-wrap: normal; }
.scroll td { white-space: nowrap; }
.scroll small { display: block; color: var(--soft); white-space: nowrap; }
td.run { white-space: nowrap; font-weight: 600; }
svg.key { display: inline-block; width: 22px; height: 8px; margin-right: 8px; vertical-align: 1px; }
table.settings td { white-space: normal; overflow-wrap: anywhere; min-width: 90px; }
.legend { font-size: 14px; margin-bottom: 14px; }
`
