/** A mask at another place of its image: noise there hides nothing of what the mask was drawn on. */

import { philox4x32 } from '../../random/philox.js'
import { noiseKey } from '../noise.js'
import type { Mask } from './mask.js'

/** Places are tried this share of all places apart, so that neighbours are not tried one after the other. */
const stride = (Math.sqrt(5) - 1) / 2

/**
 * The mask, shifted as a whole: of the same shape and area, inside the image, no pixel in common with where it was.
 * @param seed any safe integer; the same mask and seed give the same place.
 * @returns null where the image has no such place.
 */
export function moveMask(mask: Mask, seed: number): Mask | null {
  const { width, height, inside } = mask
  const pixels = [...inside.keys()].filter((pixel) => inside[pixel])
  if (pixels.length === 0 || 2 * pixels.length > inside.length) return null
  const columns = pixels.map((pixel) => pixel % width)
  const left = columns.reduce((least, column) => Math.min(least, column))
  const right = columns.reduce((most, column) => Math.max(most, column))
  const top = Math.floor(pixels[0] / width)
  const bottom = Math.floor(pixels[pixels.length - 1] / width)
  const across = width - (right - left)
  const places = across * (height - (bottom - top))
  const [word] = philox4x32([0, 0, 0, 2], noiseKey(seed))
  const first = Math.floor((word / 0x100000000) * places)
  const step = coprimeNear(Math.round(places * stride), places)
  for (let tried = 0; tried < places; tried += 1) {
    const place = (first + tried * step) % places
    const shift = (Math.floor(place / across) - top) * width + (place % across) - left
    if (pixels.some((pixel) => inside[pixel + shift])) continue
    const moved = new Uint8Array(inside.length)
    for (const pixel of pixels) moved[pixel + shift] = 1
    return { width, height, inside: moved }
  }
  return null
}

/** A step that meets each of `count` places once. */
function coprimeNear(step: number, count: number): number {
  let found = Math.max(1, step)
  while (commonDivisor(found, count) > 1) found += 1
  return found
}

const commonDivisor = (a: number, b: number): number => (b === 0 ? a : commonDivisor(b, a % b))
