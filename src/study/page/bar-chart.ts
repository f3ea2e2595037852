/** Bars of arms: the mean over the seeds, its interval, and each seed as a dot. */
import * as Plot from '@observablehq/plot'
import { drawChart } from '../../page/chart.js'
import type { Html } from '../../page/html.js'
import type { Interval } from '../../statistics/index.js'
import { lookOf } from './arm-look.js'

/** One arm's bar. */
export interface Bar {
  arm: string
  mean: number
  interval: Interval | null
  seeds: readonly number[]
}

export interface BarChart {
  /** What is drawn, for screen readers. */
  label: string
  format: (value: number) => string
  domain?: [number, number]
  /** A level that means something. */
  level?: number
}

export function drawBars(
  table: Parameters<typeof lookOf>[0],
  bars: readonly Bar[],
  { label, format, domain, level }: BarChart,
): Html {
  const filled = bars.map((bar) => ({ ...bar, ...bar.interval, fill: lookOf(table, bar.arm).stroke }))
  const known = filled.filter(({ interval }) => interval !== null)
  const dots = bars.flatMap(({ arm, seeds }) => seeds.map((value) => ({ arm, value })))
  return drawChart({
    ariaLabel: `${label}: ${bars.map(({ arm, mean }) => `${arm} ${format(mean)}`).join('; ')}`,
    ...{ marginLeft: 130, marginBottom: 30, marginRight: 24 },
    color: { type: 'identity' },
    x: { label: null, grid: true, nice: true, tickFormat: format, ...(domain && { domain }) },
    y: { label: null, domain: bars.map(({ arm }) => arm), tickFormat: shortened, padding: 0.25 },
    marks: [
      Plot.barX(filled, { x1: domain?.[0] ?? 0, x2: 'mean', y: 'arm', fill: (bar) => bar.fill, fillOpacity: 0.65 }),
      Plot.ruleY(known, { x1: 'low', x2: 'high', y: 'arm', stroke: 'currentColor', strokeWidth: 1.5 }),
      Plot.dot(dots, { x: 'value', y: 'arm', stroke: 'currentColor', fill: 'var(--card)', r: 2.5, strokeWidth: 1.2 }),
      ...(level === undefined ? [] : [Plot.ruleX([level], { strokeDasharray: '4 3', strokeOpacity: 0.6 })]),
    ],
  })
}

/** As much of a name as stands beside a bar. */
const shortened = (name: string): string => (name.length > 18 ? `${name.slice(0, 17)}…` : name)
