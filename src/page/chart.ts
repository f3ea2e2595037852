/** Charts as SVG text, drawn by Observable Plot on a document that lives in memory: no browser is needed. */
import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'
import { type Html, html, trusted } from './html.js'

/** Text in a picture is scaled with it, so a page has one for wide windows and one for telephones. */
const SIZES = {
  wide: { width: 520, height: 240, ticks: 6 },
  narrow: { width: 326, height: 220, ticks: 4 },
} as const

/** The same chart for both widths; which one is seen is the style sheet's. With `ariaLabel` it is one image to screen readers. */
export function drawChart(options: Plot.PlotOptions): Html {
  const drawn = Object.entries(SIZES).map(([name, { ticks, ...size }]) => {
    const chart = render({ ...options, ...size, x: { ticks, ...options.x } })
    return html`<div class="${name}">${chart}</div>`
  })
  return html`${drawn}`
}

/** Three digits at most; powers of ten for what would be a row of zeros. */
export function tickFormat(value: number): string {
  const size = Math.abs(value)
  const text = size > 0 && size < 1e-3 ? size.toExponential(1).replace('.0e', 'e') : String(Number(size.toPrecision(3)))
  return value < 0 ? `−${text}` : text
}

function render(options: Plot.PlotOptions): Html {
  const { document } = parseHTML('<!doctype html><html><body></body></html>')
  const style = { background: 'none', fontFamily: 'inherit', fontSize: '12px' }
  const figure = Plot.plot({ style, ...options, document: document as unknown as Plot.PlotOptions['document'] })
  if (options.ariaLabel) figure.setAttribute('role', 'img')
  return trusted(figure.outerHTML)
}
