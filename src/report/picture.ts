/** Images of a report: PNG inlined as data URIs, outlines and heat drawn over them as vectors. */
import type { AttentionMap } from '../evaluate/attention.js'
import { type Html, html } from './html.js'
import type { Picture } from './types.js'

const dataUri = (png: Uint8Array) => `data:image/png;base64,${Buffer.from(png).toString('base64')}`

/** The picture with the outline of its mask and, when given, a heatmap over it. `label` is read by screen readers. */
export function drawPicture(picture: Picture, label: string, heat: AttentionMap | null = null): Html {
  const { width, height, mask } = picture
  const outline = mask ? maskOutline(mask, width, height) : ''
  return html`<svg class="picture" viewBox="0 0 ${width} ${height}" role="img" aria-label="${label}">
    <image href="${dataUri(picture.png)}" width="${width}" height="${height}"/>
    ${heat && drawHeat(heat, width, height)}
    ${outline !== '' && html`<path class="outline-under" d="${outline}"/><path class="outline" d="${outline}"/>`}
  </svg>`
}

/** One rectangle a token; the strongest is opaque, and the scale is linear from 0. */
function drawHeat(heat: AttentionMap, width: number, height: number): Html {
  const peak = heat.values.reduce((most, value) => Math.max(most, value), 0) || 1
  const [w, h] = [width / heat.columns, height / heat.rows]
  const cells = Array.from(heat.values, (value, i) => {
    const [x, y] = [(i % heat.columns) * w, Math.floor(i / heat.columns) * h]
    return html`<rect x="${x}" y="${y}" width="${w}" height="${h}" opacity="${((0.85 * value) / peak).toFixed(3)}"/>`
  })
  return html`<g class="heat">${cells}</g>`
}

/**
 * The border of a mask as SVG path data along pixel edges: horizontal runs, then vertical ones, so that a block of any
 * size costs a few commands.
 */
export function maskOutline(mask: Uint8Array, width: number, height: number): string {
  const inside = (x: number, y: number) => x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x] !== 0
  const lines: string[] = []
  for (let y = 0; y <= height; y++) {
    for (const [from, to] of runs(width, (x) => inside(x, y) !== inside(x, y - 1))) lines.push(`M${from} ${y}H${to}`)
  }
  for (let x = 0; x <= width; x++) {
    for (const [from, to] of runs(height, (y) => inside(x, y) !== inside(x - 1, y))) lines.push(`M${x} ${from}V${to}`)
  }
  return lines.join('')
}

/** Maximal half-open stretches of `[0, length)` where `holds`. */
function runs(length: number, holds: (i: number) => boolean): [number, number][] {
  const found: [number, number][] = []
  let start = -1
  for (let i = 0; i <= length; i++) {
    const here = i < length && holds(i)
    if (here && start < 0) start = i
    if (!here && start >= 0) {
      found.push([start, i])
      start = -1
    }
  }
  return found
}
