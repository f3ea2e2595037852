/** Curves of training. */
import * as Plot from '@observablehq/plot'
import { drawChart, tickFormat } from '../../page/chart.js'
import type { Html } from '../../page/html.js'
import type { LogRow } from '../metrics.js'

export interface Series {
  /** Key in metrics.jsonl. */
  key: string
  label: string
  /** Index of the page's series colours. */
  colour: 1 | 2 | 3 | 4
}

export interface CurveOptions {
  series: Series[]
  yLabel: string
  /** A level worth a line of its own: no preference, chance, the value at the start. */
  reference?: number
  /** Fixed vertical range; otherwise the data's. */
  domain?: [number, number]
}

/** A place on a curve. */
export interface CurvePoint {
  step: number
  value: number
}

/** Points of a curve that a page holds: a longer one is drawn by means of so many steps. */
const mostPoints = 500

/** How many steps a dot stands for. */
export const stepsOfDot = (rows: number): number => Math.max(1, Math.ceil(rows / mostPoints))

/** One metric over the steps that have it. */
export function curveOf(rows: readonly LogRow[], key: string): CurvePoint[] {
  const points = rows.flatMap(({ step, [key]: value }) => (Number.isFinite(value) ? [{ step, value }] : []))
  const size = stepsOfDot(points.length)
  return Array.from({ length: Math.ceil(points.length / size) }, (_, index) => {
    const near = points.slice(index * size, (index + 1) * size)
    return { step: near[near.length - 1].step, value: near.reduce((sum, { value }) => sum + value, 0) / near.length }
  })
}

const colourOf = (series: Series) => `var(--series-${series.colour})`

/** Half a tenth of the steps on each side: wide enough to see a trend through batches of eight pairs. */
const smoothingWindow = (steps: number) => Math.max(1, 2 * Math.floor(steps / 20) + 1)

/** A centred running mean. */
export function trend(points: readonly CurvePoint[], look: Plot.LineYOptions): Plot.Markish {
  const window = { k: smoothingWindow(points.length), anchor: 'middle', strict: false } as const
  return Plot.lineY(points, Plot.windowY(window, { x: 'step', y: 'value', strokeWidth: 2, ...look }))
}

/** Each step as a faint dot. */
function scatter(points: readonly CurvePoint[], stroke: string): Plot.Markish {
  return Plot.lineY(points, {
    ...{ x: 'step', y: 'value', curve: dots, strokeLinecap: 'round' },
    ...{ stroke, strokeWidth: 3.2, strokeOpacity: 0.35 },
  })
}

/**
 * One metric family over steps: each step as a faint dot, a centred running mean as the line. `null` when no row holds
 * any of the series.
 */
export function drawCurves(rows: readonly LogRow[], { series, ...axis }: CurveOptions): Html | null {
  const marks = series.flatMap((each) => {
    const points = curveOf(rows, each.key)
    return points.length === 0 ? [] : [scatter(points, colourOf(each)), trend(points, { stroke: colourOf(each) })]
  })
  return marks.length === 0 ? null : drawOverSteps(marks, axis)
}

export function drawOverSteps(
  marks: readonly Plot.Markish[],
  { yLabel, reference, domain }: Omit<CurveOptions, 'series'>,
): Html {
  const level = reference === undefined ? [] : [Plot.ruleY([reference], { strokeDasharray: '4 3', strokeOpacity: 0.5 })]
  return drawChart({
    marginLeft: 48,
    marginBottom: 38,
    // There is no half step.
    x: { label: 'step', tickFormat: (step: number) => (Number.isInteger(step) ? String(step) : '') },
    y: { label: yLabel, grid: true, ticks: 5, tickFormat, nice: true, ...(domain && { domain }) },
    marks: [...level, ...marks],
  })
}

/** What Plot hands to a curve; its types name a package that is not ours. */
interface Path {
  moveTo(x: number, y: number): void
  closePath(): void
}

/** A dot a point, all in one path: a tenth of the bytes of as many circles. */
const dots: Plot.CurveFunction = (path: Path) => ({
  areaStart() {},
  areaEnd() {},
  lineStart() {},
  lineEnd() {},
  point(x: number, y: number) {
    path.moveTo(x, y)
    path.closePath()
  },
})
