/** Boxes of an image as weights of its tokens. */
import type { Size } from '../../data/records.js'

/** `[left, top, right, bottom]` in pixels of the image. */
export type Box = readonly [number, number, number, number]

/** Rows and columns of an image's tokens in the decoder. */
export interface Grid {
  rows: number
  columns: number
}

/**
 * Where an image lies in the frame that its tokens divide, in pixels of the image: `x` becomes `(x - left) / width` of the frame.
 * A plain resize is the image itself; padding makes the frame larger, cropping smaller.
 */
export interface Frame extends Size {
  left: number
  top: number
}

/**
 * Marks the tokens that any box touches, as VGMED does: from `floor(left * columns / width)` up to and without
 * `ceil(right * columns / width)`, computed in this order, clipped to the grid. A box without area inside a token still marks it.
 *
 * @returns one number a token, row-major: 1 touched, 0 not. All 0 for boxes outside of the frame.
 */
export function touchedTokens(boxes: readonly Box[], frame: Frame, { rows, columns }: Grid): Float64Array {
  const marked = new Float64Array(rows * columns)
  for (const [left, top, right, bottom] of boxes) {
    const [x0, x1] = range(left - frame.left, right - frame.left, columns, frame.width)
    const [y0, y1] = range(top - frame.top, bottom - frame.top, rows, frame.height)
    for (let row = y0; row < y1; row++) marked.fill(1, row * columns + x0, row * columns + Math.max(x0, x1))
  }
  return marked
}

function range(from: number, to: number, cells: number, size: number): [number, number] {
  const clip = (cell: number): number => Math.min(cells, Math.max(0, cell))
  return [clip(Math.floor((from * cells) / size)), clip(Math.ceil((to * cells) / size))]
}

/** `[x, y, width, height]` as corners. */
export const cornersOf = ([x, y, width, height]: Box): Box => [x, y, x + width, y + height]
