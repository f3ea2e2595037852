/** Image files to 8-bit RGB, the way Pillow's `convert("RGB")` sees them, and the checks of their references. */
import { createHash } from 'node:crypto'
import { resolve } from 'node:path'
import sharp, { type Metadata, type PngOptions, type Sharp } from 'sharp'
import type { ImageInput } from '../engine/engine.js'
import type { ImageSource } from '../engine/image-cache.js'
import { asFileError, DataError, fileError, guarded } from '../errors.js'
import type { Decoded, ImageNote } from './decoded.js'
import { checkPixels, notAnImage, unsupportedImage } from './image-errors.js'
import { animationHint, checkPicture, isDicom } from './image-kinds.js'
import { readPlainFile } from './plain-file.js'
import type { ImageRef, Size } from './records.js'

/** A file's bytes under the name it was asked for, with the DICOM frame (from 1) that the name may choose. */
export interface Source {
  path: string
  bytes: Buffer
  frame?: number
}

/**
 * Decodes a PNG, JPEG, WebP or DICOM file to `rgb` [height, width, 3], 0..255: EXIF orientation applied, grey spread over
 * three channels, alpha dropped (not blended), colour profiles ignored, 16 bits scaled to 8 by round(v / 257), CMYK as
 * Pillow converts it, DICOM through its own window. `path#3` is frame 3 of a DICOM file. `id` is the SHA-256 of the
 * file's bytes, and of `#3` after them where a frame is chosen.
 * @throws {DataError} when the bytes are not an image, are damaged (a truncated file too) or declare too many pixels.
 * @throws {UnsupportedError} for a kind of DICOM file that is named in the message.
 * @throws {FileError} when the file cannot be read.
 */
export async function decodeImage(path: string): Promise<ImageInput> {
  return (await decode(await readSource(path))).image
}

/** Decodes a referenced image and holds it against its reference: content hash, width and height. */
export async function decodeReferenced(ref: ImageRef, root: string): Promise<ImageInput> {
  const source = await readReferenced(ref, root)
  const { image } = await decode(source)
  checkSize(image, ref, source.path)
  return image
}

/** For an engine's cache: decodes when asked, by content id. */
export function imageSource(ref: ImageRef, root: string): ImageSource {
  return { id: ref.sha256, path: resolve(root, ref.path), decode: () => decodeReferenced(ref, root) }
}

/** The same checks from the file's header, without decoding the pixels. */
export async function checkReferenced(ref: ImageRef, root: string): Promise<void> {
  const source = await readReferenced(ref, root)
  checkSize(await readSize(source), ref, source.path)
}

/** `checkReferenced`, and what there is to note of an image whose pixels may be dark or shown in another way. */
export async function examineReferenced(ref: ImageRef, root: string): Promise<ImageNote[]> {
  const source = await readReferenced(ref, root)
  if (!isDicom(source.bytes) && (await readHeader(source)).depth !== 'ushort') {
    checkSize(await readSize(source), ref, source.path)
    return []
  }
  const { image, notes } = await decode(source)
  checkSize(image, ref, source.path)
  return notes
}

/** The reference that a file deserves; `path` is written as given, resolved against `root`. */
export async function describeImage(path: string, root: string): Promise<ImageRef> {
  return (await describeWithNotes(path, root)).ref
}

/** The same with what there is to note. */
export async function describeWithNotes(path: string, root: string): Promise<{ ref: ImageRef; notes: ImageNote[] }> {
  const { image, notes } = await decode(await readSource(resolve(root, path)))
  const { id, width, height } = image
  return { ref: { path, sha256: id, width, height }, notes }
}

/** A file's content for a viewer that is not ours. */
export interface PortableImage {
  mime: 'image/png' | 'image/jpeg'
  bytes: Uint8Array
}

/**
 * A referenced image, checked, in a form that every viewer shows as `decodeImage` does: a plain 8-bit PNG or JPEG as it
 * is, anything else (DICOM, WebP, 16 bits, transparency, inks, EXIF orientation) as a PNG of what we decode.
 */
export async function portableImage(ref: ImageRef, root: string): Promise<PortableImage> {
  const source = await readReferenced(ref, root)
  const { image } = await decode(source)
  checkSize(image, ref, source.path)
  if (!isDicom(source.bytes)) {
    const { format, depth, space, hasAlpha, orientation = 1 } = await readHeader(source)
    const plain = depth === 'uchar' && !hasAlpha && orientation === 1 && (space === 'srgb' || space === 'b-w')
    if (plain && (format === 'png' || format === 'jpeg')) return { mime: `image/${format}`, bytes: source.bytes }
  }
  return { mime: 'image/png', bytes: await encodePng(image) }
}

/** A PNG of `rgb` [height, width, 3]. */
export function encodePng({ rgb, width, height }: Size & { rgb: Uint8Array }, options?: PngOptions): Promise<Buffer> {
  return sharp(rgb, { raw: { width, height, channels: 3 } })
    .png(options)
    .toBuffer()
}

async function decode(source: Source): Promise<{ image: ImageInput; notes: ImageNote[] }> {
  const { notes, ...pixels } = isDicom(source.bytes) ? await decodeDicom(source) : await decodePicture(source)
  return { image: { id: contentId(source), ...pixels }, notes }
}

/** Width and height as decoded. */
async function readSize(source: Source): Promise<Size> {
  if (isDicom(source.bytes)) return (await import('./dicom.js')).dicomSize(source.bytes, source.path, source.frame)
  return (await readHeader(source)).autoOrient
}

async function decodeDicom({ bytes, path, frame }: Source): Promise<Decoded> {
  return (await import('./dicom.js')).decodeDicom(bytes, path, frame)
}

/** What a PNG, JPEG or WebP declares, held against the limit. @throws {DataError | UnsupportedError} for what is none. */
export async function readHeader({ bytes, path, frame }: Source): Promise<Metadata> {
  if (frame !== undefined) throw new DataError(`${path}: only DICOM files have frames`, { detail: { path } })
  checkPicture(bytes, path)
  const header = await guarded(() => sharp(bytes, { limitInputPixels: false }).metadata(), notAnImage(path))
  checkPixels(header.width, header.height, path)
  if ((header.pages ?? 1) > 1) throw unsupportedImage(path, `an animation of ${header.pages} pictures`, animationHint)
  return header
}

/** Its pixels, upright and without its colour profile. Call it after `readHeader`, and use it inside `guarded`. */
export function openPicture(bytes: Buffer): Sharp {
  // 'warning' is the strictest: what a decoder only warns of, as data missing inside a JPEG, leaves grey areas.
  return sharp(bytes, { ignoreIcc: true, failOn: 'warning', limitInputPixels: false }).autoOrient()
}

async function decodePicture(source: Source): Promise<Decoded> {
  const header = await readHeader(source)
  const is16Bit = header.depth === 'ushort'
  const convert = header.space === 'cmyk' ? cmykToRgb : is16Bit ? scaleTo8Bits : toRgb
  return guarded(async () => {
    const pixels = await convert(openPicture(source.bytes))
    return { ...pixels, notes: is16Bit ? await darkness(source.bytes, header, pixels.rgb) : [] }
  }, notAnImage(source.path))
}

async function toRgb(picture: Sharp): Promise<Pixels> {
  return rawPixels(picture.removeAlpha().toColourspace('srgb'), 3)
}

/** round(v / 257), inside libvips, whose rows need no memory of their own: to 8 bits by a cast that cuts off. */
async function scaleTo8Bits(picture: Sharp): Promise<Pixels> {
  return rawPixels(
    picture
      .removeAlpha()
      .linear(1 / 257, 0.5)
      .toColourspace('rgb16'),
    3,
  )
}

/** 14 bits in 16 show as a quarter of the range, 12 bits as a sixteenth. */
const darkLevel = 64

async function darkness(bytes: Buffer, { space }: Metadata, rgb: Uint8Array): Promise<ImageNote[]> {
  if (rgb.some((level) => level > darkLevel)) return []
  const picture = openPicture(bytes)
    .removeAlpha()
    .toColourspace(space === 'grey16' ? 'grey16' : 'rgb16')
  const { buffer, byteOffset, length } = await picture.raw({ depth: 'ushort' }).toBuffer()
  const most = new Uint16Array(buffer, byteOffset, length / 2).reduce((highest, value) => Math.max(highest, value), 0)
  return [{ kind: 'dark_16_bits', message: `16 bits, but the highest value is ${most} of 65535: nearly black` }]
}

/** Pillow's arithmetic on inks; both libraries take every CMYK JPEG for one of Adobe's, which are stored inverted. */
async function cmykToRgb(picture: Sharp): Promise<Pixels> {
  const { rgb: inks, width, height } = await rawPixels(picture.pipelineColourspace('cmyk').toColourspace('cmyk'), 4)
  const rgb = new Uint8Array(width * height * 3)
  for (let from = 0, to = 0; from < inks.length; from += 4) {
    const light = 255 - inks[from + 3]
    for (let ink = 0; ink < 3; ink += 1, to += 1) {
      // x / 255, rounded, in the integers that Pillow uses.
      const product = inks[from + ink] * light + 128
      rgb[to] = light - (((product >> 8) + product) >> 8)
    }
  }
  return { width, height, rgb }
}

type Pixels = Omit<Decoded, 'notes'>

async function rawPixels(picture: Sharp, channels: number): Promise<Pixels> {
  const { data, info } = await picture.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true })
  if (info.channels !== channels) throw new Error(`${info.channels} channels where ${channels} were expected`)
  const { width, height } = info
  return { width, height, rgb: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) }
}

/** Reads `path`; where there is no such file and it ends in `#<number>`, the file before that. */
export async function readSource(path: string): Promise<Source> {
  const [, file, number] = /^(.+)#([1-9]\d*)$/.exec(path) ?? []
  try {
    return { path, bytes: await readPlainFile(path) }
  } catch (error) {
    if (file === undefined || (error as NodeJS.ErrnoException).code !== 'ENOENT') {
      throw fileError(error, 'Reading the image', path)
    }
  }
  const bytes = await readPlainFile(file).catch(asFileError('Reading the image', file))
  return { path, bytes, frame: Number(number) }
}

async function readReferenced(ref: ImageRef, root: string): Promise<Source> {
  const source = await readSource(resolve(root, ref.path))
  const { path } = source
  const actual = contentId(source)
  if (actual === ref.sha256) return source
  const message = `${path} is not the image of the record: sha256 ${actual}, expected ${ref.sha256}`
  throw new DataError(message, { detail: { path, actual, expected: ref.sha256 } })
}

function checkSize(image: Size, ref: ImageRef, path: string): void {
  if (image.width === ref.width && image.height === ref.height) return
  const actual = `${image.width} x ${image.height}`
  throw new DataError(`${path} is ${actual}, the record says ${ref.width} x ${ref.height}`, { detail: { path } })
}

/** The `sha256` that a reference to this image has, without decoding it. @throws {FileError} when the file cannot be read. */
export async function hashImage(path: string): Promise<string> {
  return contentId(await readSource(path))
}

/** Frames of one file are different images, so the chosen one is part of what is hashed. */
function contentId({ bytes, frame }: Source): string {
  const hash = createHash('sha256').update(bytes)
  return (frame === undefined ? hash : hash.update(`#${frame}`)).digest('hex')
}
