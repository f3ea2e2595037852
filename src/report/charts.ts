/** Charts as SVG text, drawn by Observable Plot on a document that lives in memory: no browser is needed. */
import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'
import type { GroupComparison } from '../evaluate/accuracy.js'
import { type Html, trusted } from '../page/html.js'
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

const WIDTH = 480
const HEIGHT = 240
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
      Plot.dot(data, { x: 'step', y: series.key, r: 1.6, fill: colourOf(series), fillOpacity: 0.35 }),
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
  return render({
    width: WIDTH,
    height: HEIGHT,
    marginLeft: 48,
    marginBottom: 38,
    x: { label: 'step', ticks: 6 },
    y: {
      label: options.yLabel,
      grid: true,
      ticks: 5,
      tickFormat,
      nice: true,
      ...(options.domain && { domain: options.domain }),
    },
    marks: [...level, ...marks],
  })
}

/** Three digits at most; powers of ten for what would be a row of zeros. */
function tickFormat(value: number): string {
  const size = Math.abs(value)
  const text = size > 0 && size < 1e-3 ? size.toExponential(1).replace('.0e', 'e') : String(Number(size.toPrecision(3)))
  return value < 0 ? `−${text}` : text
}

/** Before and after with their intervals, one row a group, on a scale of 0 to 100 %. */
export function drawAccuracies(
  comparisons: readonly GroupComparison[],
  nameOf: (group: GroupComparison) => string,
): Html {
  const names = comparisons.map(nameOf)
  const points = comparisons.flatMap((group) => [
    { group: nameOf(group), ...percent(group.before), offset: -5, colour: 'var(--before)' },
    { group: nameOf(group), ...percent(group.after), offset: 5, colour: 'var(--after)' },
  ])
  const marks = [-5, 5].flatMap((offset) => {
    const data = points.filter((point) => point.offset === offset)
    const colour = data[0]?.colour
    return [
      Plot.ruleY(data, { x1: 'low', x2: 'high', y: 'group', stroke: colour, strokeWidth: 2.5, dy: offset }),
      Plot.dot(data, { x: 'value', y: 'group', fill: colour, r: 4, dy: offset }),
    ]
  })
  return render({
    width: 2 * WIDTH,
    height: 66 + 34 * comparisons.length,
    marginLeft: 120,
    marginBottom: 40,
    marginRight: 24,
    x: {
      domain: [0, 100],
      label: 'accuracy, % (95 % Wilson interval)',
      labelAnchor: 'center',
      labelArrow: 'none',
      grid: true,
    },
    y: { domain: names, label: null, tickSize: 0 },
    marks,
  })
}

const percent = ({ value, low, high }: { value: number; low: number; high: number }) => ({
  value: 100 * value,
  low: 100 * low,
  high: 100 * high,
})

function render(options: Plot.PlotOptions): Html {
  const { document } = parseHTML('<!doctype html><html><body></body></html>')
  const style = { background: 'none', fontFamily: 'inherit', fontSize: '12px' }
  const figure = Plot.plot({ style, ...options, document: document as unknown as Plot.PlotOptions['document'] })
  return trusted(figure.outerHTML)
}
