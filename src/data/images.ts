/** Image files to 8-bit RGB, the way Pillow's `convert("RGB")` sees them, and the checks of their references. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import sharp from 'sharp'
import type { ImageInput } from '../engine/engine.js'
import { DataError, fileError } from '../errors.js'
import type { ImageRef } from './records.js'

/**
 * Decodes an image: EXIF orientation applied, grey spread over three channels, alpha dropped (not blended), colour
 * profiles ignored. `id` is the SHA-256 of the file's bytes.
 * @throws {DataError} when the bytes are not an image, or one whose way to 8-bit RGB is a choice (16 bits, CMYK).
 */
export async function decodeImage(path: string): Promise<ImageInput> {
  return decodeBytes(await readBytes(path), path)
}

/** Decodes a referenced image and holds it against its reference: content hash, width and height. */
export async function decodeReferenced(ref: ImageRef, root: string): Promise<ImageInput> {
  const path = resolve(root, ref.path)
  const bytes = await readBytes(path)
  checkHash(bytes, ref, path)
  const image = await decodeBytes(bytes, path)
  checkSize(image, ref, path)
  return image
}

/** The same checks from the file's header, without decoding the pixels. */
export async function checkReferenced(ref: ImageRef, root: string): Promise<void> {
  const path = resolve(root, ref.path)
  const bytes = await readBytes(path)
  checkHash(bytes, ref, path)
  checkSize(await readHeader(bytes, path), ref, path)
}

/** The reference that a file deserves; `path` is written as given, resolved against `root`. */
export async function describeImage(path: string, root: string): Promise<ImageRef> {
  const { id, width, height } = await decodeImage(resolve(root, path))
  return { path, sha256: id, width, height }
}

/** Width and height as seen (orientation applied). */
async function readHeader(bytes: Buffer, path: string): Promise<{ width: number; height: number }> {
  const { autoOrient, depth, space } = await sharp(bytes)
    .metadata()
    .catch((error) => {
      throw notAnImage(path, error)
    })
  if (depth !== 'uchar' || space === 'cmyk') {
    throw new DataError(`${path} is ${space === 'cmyk' ? 'CMYK' : `${depth} per channel`}, not 8-bit RGB or grey`, {
      detail: { path, depth, space },
      hint: 'Convert it first: which window of a 16-bit image to show is a clinical choice.',
    })
  }
  return autoOrient
}

async function decodeBytes(bytes: Buffer, path: string): Promise<ImageInput> {
  await readHeader(bytes, path)
  try {
    const { data, info } = await sharp(bytes, { ignoreIcc: true })
      .autoOrient()
      .removeAlpha()
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true })
    if (info.channels !== 3) throw new Error(`${info.channels} channels after conversion to RGB`)
    const rgb = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    return { id: sha256(bytes), width: info.width, height: info.height, rgb }
  } catch (error) {
    throw notAnImage(path, error)
  }
}

async function readBytes(path: string): Promise<Buffer> {
  return readFile(path).catch((error) => {
    throw fileError(error, 'Reading the image', path)
  })
}

function checkHash(bytes: Buffer, ref: ImageRef, path: string): void {
  const actual = sha256(bytes)
  if (actual === ref.sha256) return
  const message = `${path} is not the image of the record: sha256 ${actual}, expected ${ref.sha256}`
  throw new DataError(message, { detail: { path, actual, expected: ref.sha256 } })
}

function checkSize(image: { width?: number; height?: number }, ref: ImageRef, path: string): void {
  if (image.width === ref.width && image.height === ref.height) return
  const actual = `${image.width} x ${image.height}`
  throw new DataError(`${path} is ${actual}, the record says ${ref.width} x ${ref.height}`, { detail: { path } })
}

function notAnImage(path: string, error: unknown): DataError {
  const reason = error instanceof Error ? error.message : String(error)
  return new DataError(`${path} cannot be read as an image: ${reason}`, { detail: { path }, cause: error })
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
