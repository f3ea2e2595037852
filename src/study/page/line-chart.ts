/** Lines of arms: each seed thin, their mean strong, an interval as a band. */
import * as Plot from '@observablehq/plot'
import { drawChart, tickFormat } from '../../page/chart.js'
import type { Html } from '../../page/html.js'
import { type ArmLook, lookOf } from './arm-look.js'

/** A place on a line. */
export interface Point {
  x: number
  y: number
  low?: number
  high?: number
}

/** One arm's lines. */
export interface ArmLines {
  arm: string
  seeds: readonly (readonly Point[])[]
  /** Null where a seed is missing. */
  mean: readonly Point[] | null
}

export interface LineChart {
  /** What is drawn, for screen readers. */
  label: string
  xLabel: string
  /** Levels that mean something: chance, a reference. */
  levels?: readonly number[]
  domain?: [number, number]
  isLog?: boolean
  /** Marks whole numbers alone on the x axis. */
  isWhole?: boolean
}

/** Null where there is nothing to draw; on a log axis values that are not above 0 are left out. */
export function drawLines(
  table: Parameters<typeof lookOf>[0],
  lines: readonly ArmLines[],
  { label, xLabel, levels = [], domain, isLog = false, isWhole = false }: LineChart,
): Html | null {
  const seen = (points: readonly Point[]): Point[] => points.filter(({ y }) => Number.isFinite(y) && (!isLog || y > 0))
  const marks = lines.flatMap(({ arm, seeds, mean }) => {
    const look = lookOf(table, arm)
    const thin = mean !== null && seeds.length === 1 ? [] : seeds
    return [
      ...thin.flatMap((points) => drawLine(seen(points), look, { strokeWidth: 1, strokeOpacity: 0.4 })),
      ...drawBand(seen(mean ?? []), look),
      ...drawLine(seen(mean ?? []), look, { strokeWidth: 2.2 }),
    ]
  })
  if (marks.length === 0) return null
  return drawChart({
    ariaLabel: label,
    ...{ marginLeft: 52, marginBottom: 38 },
    x: { label: xLabel, ...(isWhole && { tickFormat: (x: number) => (Number.isInteger(x) ? String(x) : '') }) },
    y: {
      ...{ label: null, grid: true, ticks: 5, tickFormat, nice: !isLog },
      ...(isLog && { type: 'log' as const }),
      ...(domain && { domain }),
    },
    marks: [...levels.map((y) => Plot.ruleY([y], { strokeDasharray: '4 3', strokeOpacity: 0.5 })), ...marks],
  })
}

function drawLine(points: readonly Point[], look: ArmLook, stroke: Plot.LineYOptions): Plot.Markish[] {
  if (points.length === 0) return []
  if (points.length === 1) return [Plot.dot(points, { x: 'x', y: 'y', r: 3, fill: look.stroke })]
  return [Plot.lineY(points, { x: 'x', y: 'y', ...look, ...stroke })]
}

function drawBand(points: readonly Point[], { stroke }: ArmLook): Plot.Markish[] {
  const known = points.filter(({ low, high }) => Number.isFinite(low) && Number.isFinite(high))
  return known.length < 2 ? [] : [Plot.areaY(known, { x: 'x', y1: 'low', y2: 'high', fill: stroke, fillOpacity: 0.15 })]
}
