/** What every form of mask becomes: one byte a pixel of the displayed image. */
import { createHash } from 'node:crypto'
import type { Size } from '../../data/records.js'
import { DataError } from '../../errors.js'

/** A binary mask of an image. */
export interface Mask extends Size {
  /** 1 inside, 0 outside; row-major, `width * height` bytes, row 0 at the top of the image as displayed. */
  inside: Uint8Array
}

export function emptyMask({ width, height }: Size): Mask {
  return { width, height, inside: new Uint8Array(width * height) }
}

/** Pixels inside. */
export function area({ inside }: Mask): number {
  return inside.reduce((sum, value) => sum + value, 0)
}

/** Share of the pixels that are inside. */
export const coverage = (mask: Mask): number => area(mask) / mask.inside.length

/** Pixels inside any of them. All have one size, which the reader of each has checked. */
export function union(masks: readonly Mask[]): Mask {
  const all = emptyMask(masks[0])
  for (const { inside } of masks) {
    for (let pixel = 0; pixel < inside.length; pixel += 1) all.inside[pixel] |= inside[pixel]
  }
  return all
}

/** SHA-256 of size and pixels, whatever form the mask had. */
export function maskHash({ width, height, inside }: Mask): string {
  return createHash('sha256').update(`${width}x${height}\n`).update(inside).digest('hex')
}

/**
 * The mask, known to fit the image.
 * @param resize takes the nearest neighbour where sizes differ, instead of refusing.
 * @throws {DataError} naming both sizes; a mask that is off by a resize or a rotation would hide the wrong place.
 */
export function fitMask(mask: Mask, image: Size, resize: boolean, place: string): Mask {
  if (mask.width === image.width && mask.height === image.height) return mask
  if (resize) return nearest(mask, image)
  const sizes = `the mask is ${mask.width} x ${mask.height}, the image as displayed ${image.width} x ${image.height}`
  const turned = mask.width === image.height && mask.height === image.width
  throw new DataError(`${place}: ${sizes}`, {
    detail: { mask: [mask.width, mask.height], image: [image.width, image.height] },
    hint: turned
      ? 'Rows and columns look exchanged: masks refer to the image after its EXIF rotation, sizes are [height, width] in RLE.'
      : 'Make the mask on the image of the record, or say --resize-masks to take the nearest neighbour.',
  })
}

function nearest(mask: Mask, { width, height }: Size): Mask {
  const out = emptyMask({ width, height })
  for (let y = 0; y < height; y += 1) {
    const row = Math.floor(((y + 0.5) * mask.height) / height) * mask.width
    for (let x = 0; x < width; x += 1) {
      out.inside[y * width + x] = mask.inside[row + Math.floor(((x + 0.5) * mask.width) / width)]
    }
  }
  return out
}
