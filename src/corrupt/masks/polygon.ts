/** Polygons as COCO's `segmentation` lists them, filled. */
import type { Size } from '../../data/records.js'
import { DataError } from '../../errors.js'
import { emptyMask, type Mask } from './mask.js'

/**
 * The union of closed polygons, each a flat list [x0, y0, x1, y1, ...] in pixels, where (0, 0) is the outer corner of the
 * first pixel and (1, 1) its inner one. A pixel is inside when its centre is, by the even-odd rule; a polygon that crosses
 * itself therefore has holes. (pycocotools walks the edges on a grid of fifths and may differ by a pixel along slanted ones.)
 * @throws {DataError} for a polygon that is none, or one that leaves the image by more than a pixel.
 */
export function fillPolygons(polygons: readonly (readonly number[])[], size: Size, place: string): Mask {
  // How many spans begin less how many end at each pixel of a row, so that overlapping polygons cost no more.
  const line = size.width + 1
  const steps = new Int32Array(line * size.height)
  let work = 0
  for (const [index, polygon] of polygons.entries()) {
    check(polygon, size, `${place}: polygon ${index}`)
    const rows = crossingsOf(polygon, size.height)
    for (const [y, crossings] of rows) {
      work += crossings.length
      if (work > mostCrossings) throw new DataError(`${place}: the polygons have too many edges`, { hint: simplify })
      crossings.sort((a, b) => a - b)
      for (let pair = 0; pair + 1 < crossings.length; pair += 2) {
        const from = Math.max(0, Math.ceil(crossings[pair] - 0.5))
        const to = Math.min(size.width, Math.ceil(crossings[pair + 1] - 0.5))
        if (from >= to) continue
        steps[y * line + from] += 1
        steps[y * line + to] -= 1
      }
    }
  }
  const mask = emptyMask(size)
  for (let y = 0; y < size.height; y += 1) {
    for (let x = 0, spans = 0; x < size.width; x += 1) {
      spans += steps[y * line + x]
      mask.inside[y * size.width + x] = spans > 0 ? 1 : 0
    }
  }
  return mask
}

/** Edges times the rows that they cross; outlines of people's drawing have thousands. */
const mostCrossings = 2 ** 23
const simplify = 'Save the mask as a PNG instead.'

/** Where the edges cross the middle of each row. An edge has its upper end and not its lower one. */
function crossingsOf(polygon: readonly number[], height: number): Map<number, number[]> {
  const rows = new Map<number, number[]>()
  let work = 0
  for (let at = 0; at < polygon.length && work <= mostCrossings; at += 2) {
    const [x0, y0] = [polygon[at], polygon[at + 1]]
    const next = (at + 2) % polygon.length
    const [x1, y1] = [polygon[next], polygon[next + 1]]
    const last = Math.min(height, Math.ceil(Math.max(y0, y1) - 0.5))
    for (let y = Math.max(0, Math.ceil(Math.min(y0, y1) - 0.5)); y < last; y += 1, work += 1) {
      const x = x0 + ((y + 0.5 - y0) * (x1 - x0)) / (y1 - y0)
      const row = rows.get(y)
      if (row) row.push(x)
      else rows.set(y, [x])
    }
  }
  return rows
}

function check(polygon: readonly number[], { width, height }: Size, place: string): void {
  if (polygon.length < 6 || polygon.length % 2 === 1) {
    throw new DataError(`${place} has ${polygon.length} numbers; a polygon has x and y of three points or more`, {
      hint: 'For boxes write {"boxes": [[x, y, width, height]]}.',
    })
  }
  for (let at = 0; at < polygon.length; at += 2) {
    const [x, y] = [polygon[at], polygon[at + 1]]
    if (x < -1 || y < -1 || x > width + 1 || y > height + 1) {
      throw new DataError(`${place} has the point (${x}, ${y}) outside the image of ${width} x ${height}`, {
        hint: 'Points are in pixels of the displayed image, x before y.',
      })
    }
  }
}
