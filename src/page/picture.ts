/** Images of a page: WebP inlined as data URIs, outlines and heat drawn over them as vectors. */
// The image library of the whole project; here it makes pictures small.
import sharp from 'sharp'
import { decodeReferenced } from '../data/images.js'
import type { ImageRef } from '../data/records.js'
import { type Html, html } from './html.js'

/** A picture with what is drawn over it. */
export interface Picture {
  /** Of the image that it shows; what is drawn over it is in these pixels. */
  width: number
  height: number
  /** WebP file, of this size or smaller. */
  webp: Uint8Array
  /** One byte per pixel, not 0 inside the outline; `null` draws none. */
  mask: Uint8Array | null
}

/** Weights over a grid of cells that fills the picture: `rows * columns` values that are not negative, row-major. */
export interface Heat {
  rows: number
  columns: number
  values: ArrayLike<number>
  /** The weight that is drawn opaque; the scale is linear from 0. */
  peak: number
  /** What the grid divides, in pixels of the image; default: the image. */
  frame?: { left: number; top: number; width: number; height: number }
}

/** Longest side of a picture on a page, in pixels. */
const thumbnail = 448

/** A referenced image as a page shows it. @throws {DataError} when the file is not the image of the record. */
export async function loadPicture(ref: ImageRef, root: string, mask: Uint8Array | null): Promise<Picture> {
  const { width, height } = ref
  return { width, height, webp: await shrink((await decodeReferenced(ref, root)).rgb, ref, 3), mask }
}

/** @param pixels `width * height` times 1 (grey) or 3 bytes. @returns a WebP file of at most 448 pixels a side. */
export async function shrink(
  pixels: Uint8Array,
  { width, height }: { width: number; height: number },
  channels: 1 | 3,
): Promise<Buffer> {
  return await sharp(pixels, { raw: { width, height, channels } })
    .resize({ width: thumbnail, height: thumbnail, fit: 'inside', withoutEnlargement: true })
    .webp({ quality: 84, smartSubsample: true })
    .toBuffer()
}

const dataUri = (webp: Uint8Array) => `data:image/webp;base64,${Buffer.from(webp).toString('base64')}`

/** The picture with the outline of its mask and, when given, a heatmap over it. `label` is read by screen readers. */
export function drawPicture(picture: Picture, label: string, heat: Heat | null = null): Html {
  const { width, height, mask } = picture
  const outline = mask ? maskOutline(mask, width, height) : ''
  return html`<svg class="picture" viewBox="0 0 ${width} ${height}" role="img" aria-label="${label}">
    <image href="${dataUri(picture.webp)}" width="${width}" height="${height}"/>
    ${heat && drawHeat(heat, width, height)}
    ${outline !== '' && html`<path class="outline-under" d="${outline}"/><path class="outline" d="${outline}"/>`}
  </svg>`
}

/** Opacity of a cell of the peak's weight: what lies below still shows. */
const strongest = 0.85

/** One rectangle a token. */
function drawHeat(heat: Heat, width: number, height: number): Html {
  const peak = heat.peak || 1
  const { frame = { left: 0, top: 0, width, height } } = heat
  const [w, h] = [frame.width / heat.columns, frame.height / heat.rows]
  const cells = Array.from(heat.values, (value, i) => {
    const [x, y] = [frame.left + (i % heat.columns) * w, frame.top + Math.floor(i / heat.columns) * h]
    return html`<rect x="${x}" y="${y}" width="${w}" height="${h}" opacity="${((strongest * value) / peak).toFixed(3)}"/>`
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
