/** What every image decoder refuses, in the same words. */
import { DataError, UnsupportedError } from '../errors.js'

/** The largest image that is decoded, 8192 x 8192: 200 MB of RGB, above what any scanner makes. Masks have the same limit. */
export const maxPixels = 2 ** 26

/** Checks declared sizes before anything is allocated for them. */
export function checkPixels(width: number, height: number, path: string): void {
  if (width > 0 && height > 0 && width * height <= maxPixels) return
  throw new DataError(`${path} declares ${width} x ${height} pixels`, {
    detail: { path, width, height, maxPixels },
    hint: `An image has at least one pixel and at most ${maxPixels}; the file may be damaged.`,
  })
}

/** For `guarded`: what a decoder says of a file. */
export function notAnImage(path: string): (reason: string, cause: unknown) => DataError {
  return (reason, cause) => new DataError(`${path} cannot be read as an image: ${reason}`, { detail: { path }, cause })
}

/** Something the file may rightly hold and we do not show. */
export function unsupportedImage(path: string, what: string, hint?: string): UnsupportedError {
  return new UnsupportedError(`${path}: ${what}`, { detail: { path }, hint })
}
