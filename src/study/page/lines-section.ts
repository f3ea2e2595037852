/** Arms that differ in one number, along it. */
import * as Plot from '@observablehq/plot'
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { drawChart } from '../../page/chart.js'
import { type Html, html } from '../../page/html.js'
import type { SectionInput } from './section.js'
import { withMean } from './words.js'

interface Point {
  label: string
  arm: string
  at: number
  accuracy: number
  low: number
  high: number
  words: number | null
}

export function linesSection({ results, table: { lines } }: SectionInput): Section | null {
  const points = lines.flatMap(({ label, arms }): Point[] =>
    Object.entries(arms).flatMap(([name, at]) => {
      const arm = results.arms.find((each) => each.name === name)
      const mean = arm?.means.overall
      if (!arm || !mean) return []
      const { low, high } = mean.interval ?? { low: mean.value, high: mean.value }
      const words = arm.seeds.map((seed) => seed.words ?? Number.NaN)
      const meanWords = words.reduce((sum, each) => sum + each, 0) / words.length
      const known = Number.isFinite(meanWords) ? meanWords : null
      return [{ label, arm: name, at, accuracy: mean.value, low, high, words: known }]
    }),
  )
  const table = tableOf<Point>({
    name: 'lines',
    rows: points,
    above: ({ label }) => label,
    isSmall: true,
    columns: [
      { label: 'at', show: ({ at }) => at },
      { label: 'arm', show: ({ arm }) => arm },
      {
        label: 'all questions, %',
        show: ({ accuracy, low, high }) => withMean({ value: accuracy, interval: { low, high } }),
      },
      { label: 'mean words', show: ({ words }) => words?.toFixed(1) ?? '–' },
    ],
    data: (point) => ({ ...point }),
  })
  if (!table) return null
  const title = 'Along one number'
  return {
    title,
    tables: present(table),
    html: html`<h2>${title}</h2>
      <p class="note">Accuracy on all questions, with its interval as a band.</p>
      <div class="grid">${lines.map(({ label }) => drawLine(label, points))}</div>${table.html}`,
  }
}

function drawLine(label: string, all: readonly Point[]): Html | null {
  const points = all
    .filter((point) => point.label === label)
    .sort((a, b) => a.at - b.at)
    .map((point) => ({ at: point.at, accuracy: 100 * point.accuracy, low: 100 * point.low, high: 100 * point.high }))
  if (points.length < 2) return null
  const colour = 'var(--series-1)'
  const chart = drawChart({
    ...{ marginLeft: 48, marginBottom: 38 },
    x: { label: null },
    y: { label: 'all questions, %', grid: true, nice: true, ticks: 5 },
    marks: [
      Plot.areaY(points, { x: 'at', y1: 'low', y2: 'high', fill: colour, fillOpacity: 0.18 }),
      Plot.lineY(points, { x: 'at', y: 'accuracy', stroke: colour, strokeWidth: 2 }),
      Plot.dot(points, { x: 'at', y: 'accuracy', fill: colour }),
    ],
  })
  return html`<figure><h3>${label}</h3>${chart}</figure>`
}
