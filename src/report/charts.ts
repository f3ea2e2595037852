/** Curves of training. */
import * as Plot from '@observablehq/plot'
import { drawChart, tickFormat } from '../page/chart.js'
import type { Html } from '../page/html.js'
import type { MetricsRow } from '../train/metrics.js'

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

const colourOf = (series: Series) => `var(--series-${series.colour})`

/** Half a tenth of the steps on each side: wide enough to see a trend through batches of eight pairs. */
const smoothingWindow = (steps: number) => Math.max(1, 2 * Math.floor(steps / 20) + 1)

/**
 * One metric family over steps: each step as a faint dot, a centred running mean as the line. `null` when no row holds
 * any of the series.
 */
export function drawCurves(rows: readonly MetricsRow[], options: CurveOptions): Html | null {
  const present = options.series.filter(({ key }) => rows.some((row) => Number.isFinite(row[key])))
  if (present.length === 0) return null
  const k = smoothingWindow(rows.length)
  const marks = present.flatMap((series) => {
    const data = rows.filter((row) => Number.isFinite(row[series.key]))
    return [
      Plot.lineY(data, {
        ...{ x: 'step', y: series.key, curve: dots, strokeLinecap: 'round' },
        ...{ stroke: colourOf(series), strokeWidth: 3.2, strokeOpacity: 0.35 },
      }),
      Plot.lineY(
        data,
        Plot.windowY(
          { k, anchor: 'middle', strict: false },
          { x: 'step', y: series.key, stroke: colourOf(series), strokeWidth: 2 },
        ),
      ),
    ]
  })
  const level =
    options.reference === undefined
      ? []
      : [Plot.ruleY([options.reference], { strokeDasharray: '4 3', strokeOpacity: 0.5 })]
  const shared = {
    marginLeft: 48,
    marginBottom: 38,
    y: {
      label: options.yLabel,
      grid: true,
      ticks: 5,
      tickFormat,
      nice: true,
      ...(options.domain && { domain: options.domain }),
    },
    marks: [...level, ...marks],
  }
  return drawChart({ ...shared, x: { label: 'step' } })
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
