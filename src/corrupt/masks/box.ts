/** Bounding boxes, filled. */
import type { Size } from '../../data/records.js'
import { DataError } from '../../errors.js'
import { emptyMask, type Mask } from './mask.js'

export type BoxFormat = 'xywh' | 'xyxy'
export type Box = readonly [number, number, number, number]

/** Detectors round and overshoot; a box further out than this share of a side was meant for another image or format. */
const overshoot = 0.02

/**
 * The union of boxes in absolute pixels; every pixel that a box touches is inside.
 * @throws {DataError} for a box without area, outside the image, or with coordinates that look relative.
 */
export function fillBoxes(boxes: readonly Box[], format: BoxFormat, size: Size, place: string): Mask {
  // How many boxes begin less how many end at each corner, so that the cost is that of the picture, not of all boxes.
  const line = size.width + 1
  const steps = new Int32Array(line * (size.height + 1))
  for (const [index, box] of boxes.entries()) {
    const [left, top, right, bottom] = cornersOf(box, format)
    check([left, top, right, bottom], size, `${place}: box ${index} [${box.join(', ')}] (${format})`)
    const [from, to] = [Math.max(0, Math.floor(left)), Math.min(size.width, Math.ceil(right))]
    const [upper, lower] = [Math.max(0, Math.floor(top)), Math.min(size.height, Math.ceil(bottom))]
    if (from >= to || upper >= lower) continue
    for (const [x, y, step] of [
      [from, upper, 1],
      [to, upper, -1],
      [from, lower, -1],
      [to, lower, 1],
    ]) {
      steps[y * line + x] += step
    }
  }
  const mask = emptyMask(size)
  for (let y = 0; y < size.height; y += 1) {
    for (let x = 0, above = 0; x < size.width; x += 1) {
      above += steps[y * line + x]
      // The sum over everything above and to the left: of the row above, and of this row so far.
      steps[y * line + x] = above + (y > 0 ? steps[(y - 1) * line + x] : 0)
      mask.inside[y * size.width + x] = steps[y * line + x] > 0 ? 1 : 0
    }
  }
  return mask
}

function cornersOf([a, b, c, d]: Box, format: BoxFormat): Box {
  return format === 'xyxy' ? [a, b, c, d] : [a, b, a + c, b + d]
}

function check([left, top, right, bottom]: Box, { width, height }: Size, place: string): void {
  if (!(right > left && bottom > top)) {
    throw new DataError(`${place} has no area`, { hint: 'Boxes are [x, y, width, height] unless format is "xyxy".' })
  }
  if (right <= 1 && bottom <= 1 && left >= 0 && top >= 0 && width * height > 1) {
    throw new DataError(`${place} looks relative to the image's size`, {
      hint: 'Multiply by width and height: pixels.',
    })
  }
  const [x, y] = [Math.max(2, overshoot * width), Math.max(2, overshoot * height)]
  if (left < -x || top < -y || right > width + x || bottom > height + y) {
    throw new DataError(`${place} leaves the image of ${width} x ${height}`, {
      hint: 'Boxes are [x, y, width, height] in pixels of the displayed image unless format is "xyxy".',
    })
  }
}
