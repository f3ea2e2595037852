/**
 * COCO's run-length encoding: runs of outside and inside in turn, outside first, down the columns (Fortran order), with
 * `size` = [height, width]. `counts` is a list of run lengths or COCO's compressed string of the same.
 */
import { checkPixels } from '../../data/image-errors.js'
import { DataError } from '../../errors.js'
import { emptyMask, type Mask } from './mask.js'

export interface Rle {
  size: readonly [height: number, width: number]
  counts: readonly number[] | string
}

/** @throws {DataError} when a count is no length or the runs do not fill the mask exactly. */
export function decodeRle({ size: [height, width], counts }: Rle, place: string): Mask {
  checkPixels(width, height, `${place}: RLE`)
  const runs = typeof counts === 'string' ? decompressCounts(counts, place) : counts
  const bad = runs.find((run) => !(Number.isInteger(run) && run >= 0))
  if (bad !== undefined) throw new DataError(`${place}: RLE has a run of ${bad} pixels`)
  const total = runs.reduce((sum, run) => sum + run, 0)
  if (total !== width * height) {
    throw new DataError(`${place}: RLE has ${total} pixels where ${height} x ${width} (height x width) were declared`, {
      hint: 'The file may be truncated, or its size is written as [width, height].',
    })
  }
  const mask = emptyMask({ width, height })
  let position = 0
  for (const [index, run] of runs.entries()) {
    if (index % 2 === 1) {
      for (let at = position; at < position + run; at += 1) {
        mask.inside[(at % height) * width + Math.floor(at / height)] = 1
      }
    }
    position += run
  }
  return mask
}

/** The list form of a mask. */
export function encodeRle({ width, height, inside }: Mask): { size: [number, number]; counts: number[] } {
  const counts = [0]
  let current = 0
  for (let x = 0; x < width; x += 1) {
    for (let y = 0; y < height; y += 1) {
      const value = inside[y * width + x]
      if (value !== current) counts.push(0)
      current = value
      counts[counts.length - 1] += 1
    }
  }
  return { size: [height, width], counts }
}

/**
 * Each count as a signed number in groups of five bits, low group first, in characters from '0' on: bit 5 says that more
 * follow, bit 4 of the last group is the sign. From the fourth on, a count is kept as its difference to the one two before.
 */
function decompressCounts(text: string, place: string): number[] {
  const counts: number[] = []
  for (let at = 0; at < text.length; ) {
    let value = 0
    let group: number
    let weight = 1
    do {
      group = text.charCodeAt(at) - 48
      if (!(group >= 0 && group < 64)) {
        throw new DataError(
          `${place}: RLE string ${at < text.length ? 'has a foreign character' : 'breaks off'} at ${at}`,
        )
      }
      value += (group & 31) * weight
      weight *= 32
      at += 1
    } while (group & 32)
    if (group & 16) value -= weight
    counts.push(counts.length > 2 ? value + counts[counts.length - 2] : value)
  }
  return counts
}
