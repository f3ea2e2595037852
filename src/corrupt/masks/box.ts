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
  const mask = emptyMask(size)
  for (const [index, box] of boxes.entries()) {
    const [left, top, right, bottom] = cornersOf(box, format)
    check([left, top, right, bottom], size, `${place}: box ${index} [${box.join(', ')}] (${format})`)
    const [from, to] = [Math.max(0, Math.floor(left)), Math.min(size.width, Math.ceil(right))]
    const lowest = Math.min(size.height, Math.ceil(bottom))
    for (let y = Math.max(0, Math.floor(top)); y < lowest; y += 1) {
      mask.inside.fill(1, y * size.width + from, y * size.width + to)
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
