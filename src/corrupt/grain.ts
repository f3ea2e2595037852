/**
 * Noise as coarse as the model's own pixels. A model that sees 336 pixels of 1024 averages about nine into one, and with
 * them independent noise: σ 45 arrives as 12. Noise that is drawn on the model's grid and interpolated is not averaged away.
 */

import { normals } from '../random/philox.js'
import { type NoiseAt, noiseKey } from './noise.js'

/** Where a model's pixels lie on an image. */
export interface ViewGrid {
  /** Pixels of the model for one of the image. */
  scaleX: number
  scaleY: number
  /** Where the image begins among them. */
  left: number
  top: number
}

interface Taps {
  /** The first of four cells. */
  cell: number
  weights: readonly [number, number, number, number]
}

/**
 * Standard normal numbers on the model's grid, times `gain`, carried to the pixels of the image by Keys' cubic (a = -0.5). Where the model
 * sees more pixels than the image has, the grid is the image's own.
 */
export function coarseNoise({ scaleX, scaleY, left, top }: ViewGrid, width: number, seed: number, gain = 1): NoiseAt {
  const key = noiseKey(seed)
  const columns = Array.from({ length: width }, (_, x) => tapsAt(x, scaleX, left))
  const first = columns[0].cell
  const across = (columns.at(-1) as Taps).cell + 4 - first
  const firstRow = tapsAt(0, scaleY, top).cell
  const cells = new Map<number, Float64Array>()
  const cellRow = (row: number): Float64Array => {
    const known = cells.get(row)
    if (known) return known
    const made = new Float64Array(across * 3)
    for (let cell = 0; cell < across; cell += 1) {
      const values = normals((row - firstRow) * across + cell, key)
      for (let channel = 0; channel < 3; channel += 1) made[cell * 3 + channel] = gain * values[channel]
    }
    // Pixels are asked for row by row; four rows of cells reach one.
    if (cells.size > 8) cells.clear()
    cells.set(row, made)
    return made
  }
  let blended = new Float64Array()
  let blendedRow = -1
  const value = new Float64Array(3)
  return (pixel) => {
    const y = Math.floor(pixel / width)
    if (y !== blendedRow) {
      const { cell, weights } = tapsAt(y, scaleY, top)
      const rows = weights.map((_, tap) => cellRow(cell + tap))
      blended = rows[0].map((_, at) => rows.reduce((sum, row, tap) => sum + weights[tap] * row[at], 0))
      blendedRow = y
    }
    const { cell, weights } = columns[pixel % width]
    const from = (cell - first) * 3
    for (let channel = 0; channel < 3; channel += 1) {
      const at = from + channel
      value[channel] =
        weights[0] * blended[at] +
        weights[1] * blended[at + 3] +
        weights[2] * blended[at + 6] +
        weights[3] * blended[at + 9]
    }
    return value
  }
}

/** The cells that reach the middle of a pixel of the image. */
function tapsAt(pixel: number, scale: number, begin: number): Taps {
  const place = scale < 1 ? (pixel + 0.5) * scale + begin - 0.5 : pixel
  const cell = Math.floor(place)
  const t = place - cell
  const weights = [t + 1, t, 1 - t, 2 - t].map(cubic) as [number, number, number, number]
  return { cell: cell - 1, weights }
}

function cubic(x: number): number {
  return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((-0.5 * x + 2.5) * x - 4) * x + 2
}
