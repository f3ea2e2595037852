/** Masks as pictures: 0/1, 0/255, class ids in grey levels, coloured overlays on black or transparent ground. */
// The image library of the whole project (src/data/images.ts).
import sharp from 'sharp'
import { notAnImage } from '../../data/image-errors.js'
import { openPicture, readHeader } from '../../data/images.js'
import type { Size } from '../../data/records.js'
import { DataError, guarded } from '../../errors.js'
import { emptyMask, type Mask } from './mask.js'

export interface PictureOptions {
  /** Class ids that are inside; without it, whatever is neither black nor transparent. */
  value?: readonly number[]
  /** Inside is at or above this grey level; what a lossy or soft mask needs. */
  threshold?: number
  /** The picture is a cut-out of the mask whose first pixel lies here, [x, y]. */
  offset?: readonly [number, number]
}

/** A mask as a grey PNG, 255 inside. */
export async function maskPng({ width, height, inside }: Mask): Promise<Buffer> {
  const grey = inside.map((value) => value * 255)
  return await sharp(grey, { raw: { width, height, channels: 1 } })
    .toColourspace('b-w')
    .png()
    .toBuffer()
}

/** One grey level or id a pixel (the first channel), whether all channels agree, and where anything is seen. */
interface Levels extends Size {
  level: Uint8Array | Uint16Array
  grey: boolean
  visible: Uint8Array
}

/**
 * Reads a PNG or WebP (a JPEG only with `threshold`, for its values are not those that were saved).
 * @param image the size of the mask that a cut-out is placed in.
 * @throws {DataError} for what is no picture, a coloured one where ids are asked for, or a cut-out that does not fit.
 */
export async function readPictureMask(
  bytes: Buffer,
  path: string,
  { value, threshold, offset }: PictureOptions,
  image: Size,
): Promise<Mask> {
  const { width, height, level, grey, visible } = await readLevels(bytes, path, threshold !== undefined)
  if ((value || threshold !== undefined) && !grey) {
    throw new DataError(`${path} is coloured; class ids and thresholds need one grey level a pixel`, {
      hint: 'Save the ids as an 8 or 16 bit grey PNG; a palette loses them.',
    })
  }
  const mask = emptyMask({ width, height })
  const ids = value && new Set(value)
  for (let pixel = 0; pixel < level.length; pixel += 1) {
    const here = ids ? ids.has(level[pixel]) : threshold === undefined ? visible[pixel] : level[pixel] >= threshold
    mask.inside[pixel] = here ? 1 : 0
  }
  return offset ? placed(mask, offset, image, path) : mask
}

async function readLevels(bytes: Buffer, path: string, lossyAllowed: boolean): Promise<Levels> {
  const { format, depth } = await readHeader({ bytes, path })
  if (format === 'jpeg' && !lossyAllowed) {
    throw new DataError(`${path} is a JPEG, whose compression leaves grey specks around every edge`, {
      hint: 'Save the mask as PNG, or say which levels are inside: {"file": ..., "threshold": 128}.',
    })
  }
  const wide = depth === 'ushort'
  const picture = openPicture(bytes).toColourspace(wide ? 'rgb16' : 'srgb')
  return guarded(async () => {
    const { data, info } = await picture.raw({ depth: wide ? 'ushort' : 'uchar' }).toBuffer({ resolveWithObject: true })
    return toLevels(wide ? new Uint16Array(data.buffer, data.byteOffset, data.length / 2) : data, info)
  }, notAnImage(path))
}

/** 1 or 3 colour channels, and alpha where there are 2 or 4. */
function toLevels(data: Uint8Array | Uint16Array, { width, height, channels }: Size & { channels: number }): Levels {
  const count = width * height
  const colours = channels > 2 ? 3 : 1
  const level = data instanceof Uint16Array ? new Uint16Array(count) : new Uint8Array(count)
  const visible = new Uint8Array(count)
  let grey = true
  for (let pixel = 0, at = 0; pixel < count; pixel += 1, at += channels) {
    const opaque = channels === colours || data[at + channels - 1] > 0
    level[pixel] = data[at]
    for (let channel = 0; channel < colours; channel += 1) {
      grey &&= data[at + channel] === data[at]
      if (opaque && data[at + channel] > 0) visible[pixel] = 1
    }
  }
  return { width, height, level, grey, visible }
}

function placed(cutOut: Mask, [left, top]: readonly [number, number], image: Size, path: string): Mask {
  if (left + cutOut.width > image.width || top + cutOut.height > image.height) {
    const size = `${cutOut.width} x ${cutOut.height} at (${left}, ${top})`
    throw new DataError(`${path}: ${size} does not fit the image of ${image.width} x ${image.height}`)
  }
  const mask = emptyMask(image)
  for (let y = 0; y < cutOut.height; y += 1) {
    const row = cutOut.inside.subarray(y * cutOut.width, (y + 1) * cutOut.width)
    mask.inside.set(row, (top + y) * image.width + left)
  }
  return mask
}
