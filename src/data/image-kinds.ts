/** What a file is by its first bytes, whatever it is called, so that no decoder sees a file of another kind. */
import { DataError } from '../errors.js'
import { unsupportedImage } from './image-errors.js'

/** Other things that lie where an image should be, by how they begin. */
const others: readonly (readonly [at: number, start: string, what: string])[] = [
  [0, 'GIF8', 'a GIF'],
  [0, 'BM', 'a BMP'],
  [0, 'II*\0', 'a TIFF'],
  [0, 'MM\0*', 'a TIFF'],
  [4, 'ftypheic', 'a HEIC'],
  [4, 'ftypmif1', 'a HEIC'],
  [4, 'ftypavif', 'an AVIF'],
  [4, 'jP  ', 'a JPEG 2000'],
  [0, '\xff\x4f\xff\x51', 'a JPEG 2000'],
  [4, 'JXL ', 'a JPEG XL'],
  [0, '<svg', 'an SVG'],
]

/** Pictures that sharp reads for us. */
export function isPicture(bytes: Buffer): boolean {
  const start = bytes.toString('latin1', 0, 12)
  return start.startsWith('\x89PNG\r\n\x1a\n') || start.startsWith('\xff\xd8\xff') || /^RIFF....WEBP/s.test(start)
}

export function isDicom(bytes: Buffer): boolean {
  return bytes.toString('latin1', 128, 132) === 'DICM'
}

/**
 * @throws {UnsupportedError} naming a kind of picture that is not read, animations too.
 * @throws {DataError} for anything else that is no PNG, JPEG or WebP.
 */
export function checkPicture(bytes: Buffer, path: string): void {
  if (isPicture(bytes)) {
    const frames = pngFrames(bytes)
    if (frames > 1) throw unsupportedImage(path, `an animation of ${frames} pictures`, animationHint)
    return
  }
  const start = bytes.toString('latin1', 0, 64)
  if (start.startsWith('version https://git-lfs')) {
    throw new DataError(`${path} is a Git LFS pointer, not the file itself`, {
      detail: { path },
      hint: 'Fetch the files that the pointers stand for: git lfs pull.',
    })
  }
  const not = 'it is not a PNG, JPEG, WebP or DICOM file but'
  // The extension that makes a GIF loop.
  if (start.startsWith('GIF8') && bytes.includes('NETSCAPE2.0')) {
    throw unsupportedImage(path, `${not} an animated GIF`, animationHint)
  }
  const other = others.find(([at, signature]) => start.startsWith(signature, at))
  if (other) throw unsupportedImage(path, `${not} ${other[2]}`, 'Convert it to PNG.')
  const seen = bytes.length === 0 ? 'it is empty' : `it starts with ${JSON.stringify(start.slice(0, 12))}`
  throw new DataError(`${path} is not a PNG, JPEG, WebP or DICOM file: ${seen}`, {
    detail: { path },
    hint: 'Convert it to PNG. A DICOM file has a preamble of 128 bytes and then "DICM".',
  })
}

export const animationHint = 'Save the picture that is meant as a PNG.'

/** What the acTL chunk of an APNG declares; it comes before the pixels. */
function pngFrames(bytes: Buffer): number {
  if (bytes[0] !== 0x89) return 1
  for (let at = 8; at + 12 <= bytes.length; at += 12 + bytes.readUInt32BE(at)) {
    const chunk = bytes.toString('latin1', at + 4, at + 8)
    if (chunk === 'acTL') return bytes.readUInt32BE(at + 8)
    if (chunk === 'IDAT') break
  }
  return 1
}
