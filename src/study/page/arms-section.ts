/** Arms side by side: seeds as points, means with intervals, the baseline as a line. */
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { type Html, html } from '../../page/html.js'
import { percent } from '../../page/numbers.js'
import { counted } from '../../text/plural.js'
import type { ArmResults } from '../results.js'
import { type Metric, metrics } from '../settings.js'
import { shareOf } from './finished.js'
import type { SectionInput } from './section.js'
import { metricWords, withMean } from './words.js'

interface Scale {
  low: number
  high: number
}

export function armsSection({ results, table }: SectionInput): Section | null {
  const rows = table.arms.map((name) => results.arms.find((arm) => arm.name === name) as ArmResults)
  const baseline = rows.find(({ name }) => name === table.baseline)
  const scale = scaleOf(rows)
  const shown = tableOf<ArmResults>({
    name: 'arms',
    rows,
    columns: [
      { label: 'arm', show: ({ name, words }) => html`<b>${name}</b> <small>${words}</small>` },
      {
        label: 'all questions, each dot a seed',
        kind: 'chart',
        heading: drawAxis(scale),
        show: (row) => drawTrack(row, baseline, scale),
      },
      ...metrics.map((metric) => ({
        label: `${metricWords[metric]}, %`,
        show: ({ means, seeds }: ArmResults) =>
          html`${withMean(means[metric])} ${means[metric] === null && missing(seeds)}`,
      })),
      { label: 'mean words', show: ({ seeds }) => wordsOf(seeds) },
    ],
    data: (row) => ({
      arm: row.name,
      row: row.row,
      seedsDone: doneOf(row.seeds),
      seeds: row.seeds.length,
      ...Object.fromEntries(metrics.flatMap((metric) => numbersOf(row, metric))),
    }),
  })
  const title = 'Arms'
  return {
    title,
    tables: present(shown, seedsTable(rows)),
    html: html`<h2>${title}</h2>
      <p class="note">Accuracy is the mean over ${counted(results.seeds.length, 'seed')} with a 95 % bootstrap interval: seeds are drawn, then images within each.
      Small dots are the seeds, the vertical line is ${table.baseline}. Closed is answer_type. An arm with a missing seed has no mean.</p>
      ${shown?.html}`,
  }
}

const doneOf = (seeds: ArmResults['seeds']): number => seeds.filter(({ state }) => state === 'done').length

const missing = (seeds: ArmResults['seeds']): Html => html`<small>${doneOf(seeds)} of ${seeds.length} seeds</small>`

function wordsOf(seeds: ArmResults['seeds']): string {
  const known = seeds.flatMap(({ words }) => words ?? [])
  return known.length < seeds.length ? '–' : (known.reduce((sum, each) => sum + each, 0) / known.length).toFixed(1)
}

function numbersOf({ means }: ArmResults, metric: Metric): [string, number | null][] {
  const mean = means[metric]
  return [
    [metric, mean?.value ?? null],
    [`${metric}Low`, mean?.interval?.low ?? null],
    [`${metric}High`, mean?.interval?.high ?? null],
  ]
}

/** Every cell of the study, for programs. */
function seedsTable(rows: readonly ArmResults[]) {
  return tableOf({
    name: 'seeds',
    rows: rows.flatMap(({ name, seeds }) => seeds.map((seed) => ({ name, ...seed }))),
    columns: [{ label: 'arm', show: ({ name }) => name }],
    data: ({ name, seed, state, why, words, tuned, groups }) => ({
      ...{ arm: name, seed, state, why, meanWords: words, tuned: tuned?.value ?? null },
      ...Object.fromEntries(
        metrics.flatMap((metric) => [
          [`${metric}Successes`, groups?.[metric].successes ?? null],
          [`${metric}Count`, groups?.[metric].count ?? null],
        ]),
      ),
    }),
  })
}

/** From the lowest to the highest number, to tens of percent: differences of a few points are to be seen. */
function scaleOf(rows: readonly ArmResults[]): Scale {
  const values = rows.flatMap(({ seeds, means }) => [
    ...seeds.flatMap((seed) => shareOf(seed) ?? []),
    ...(means.overall?.interval ? [means.overall.interval.low, means.overall.interval.high] : []),
  ])
  if (values.length === 0) return { low: 0, high: 1 }
  const [low, high] = [Math.floor(10 * Math.min(...values)) / 10, Math.ceil(10 * Math.max(...values)) / 10]
  return { low, high: high > low ? high : low + 0.1 }
}

const placeOf = (value: number, { low, high }: Scale): string => `${((100 * (value - low)) / (high - low)).toFixed(2)}%`

const levelsOf = ({ low, high }: Scale): number[] => Array.from({ length: 5 }, (_, i) => low + (i * (high - low)) / 4)

function drawAxis(scale: Scale): Html {
  const labels = levelsOf(scale).map(
    (level) => html`<text x="${placeOf(level, scale)}" y="12" text-anchor="middle">${percent(level, 0)}</text>`,
  )
  return html`<svg class="axis" aria-hidden="true">${labels}</svg>`
}

function drawTrack({ seeds, means, name }: ArmResults, baseline: ArmResults | undefined, scale: Scale): Html {
  const at = (value: number) => placeOf(value, scale)
  const line = baseline?.means.overall && at(baseline.means.overall.value)
  const { overall } = means
  return html`<svg class="track ${name === baseline?.name ? 'c0' : 'c1'}" role="img" aria-label="${withMean(overall)} %">
    ${levelsOf(scale).map((level) => html`<line class="level" x1="${at(level)}" x2="${at(level)}" y1="-6" y2="30"/>`)}
    ${line && html`<line class="base" x1="${line}" x2="${line}" y1="-6" y2="30"/>`}
    ${overall?.interval && html`<line class="reach" x1="${at(overall.interval.low)}" x2="${at(overall.interval.high)}" y1="12" y2="12"/>`}
    ${overall && html`<circle cx="${at(overall.value)}" cy="12" r="5"/>`}
    ${seeds.map((seed) => shareOf(seed) !== null && html`<circle class="seed" cx="${at(shareOf(seed) as number)}" cy="12" r="2.5"/>`)}
  </svg>`
}
