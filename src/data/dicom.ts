/**
 * DICOM files to 8-bit RGB: which frame, where its bytes are, how its values are shown. dicom-parser reads the attributes:
 * the parser of the web viewers (Cornerstone, OHIF), without dependencies and without a copy of the pixels.
 */
import { inflateRawSync } from 'node:zlib'
import dicomParser, { type DataSet, type Element } from 'dicom-parser'
import { DataError, guarded, reasonOf } from '../errors.js'
import type { Decoded } from './decoded.js'
import { decompress, isCompressed, type Layout, syntaxName } from './dicom-codecs.js'
import { showFrame } from './dicom-display.js'
import { checkPixels, maxPixels, notAnImage, unsupportedImage } from './image-errors.js'
import type { Size } from './records.js'

/** A parsed file and the frame asked for, from 0. */
interface Opened {
  dataSet: DataSet
  pixelData: Element
  syntax: string
  layout: Layout
  frame: number
  frames: number
}

const tags = {
  transferSyntax: 'x00020010',
  samples: 'x00280002',
  photometric: 'x00280004',
  planar: 'x00280006',
  frames: 'x00280008',
  rows: 'x00280010',
  columns: 'x00280011',
  bitsAllocated: 'x00280100',
  bitsStored: 'x00280101',
  highBit: 'x00280102',
  representation: 'x00280103',
  pixelData: 'x7fe00010',
  floatPixels: 'x7fe00008',
  doublePixels: 'x7fe00009',
}

const bigEndian = '1.2.840.10008.1.2.2'

/** What a deflated data set may grow to, as a guard against bombs: the largest image in colour, and its attributes. */
const inflateLimit = 4 * maxPixels

/** Real files have hundreds of attributes at their top. Zeros, which inflate from nothing, are eight bytes an attribute. */
const mostAttributes = 100_000

/** Width and height of a frame, from attributes alone. @throws what `decodeDicom` throws before it reads pixels. */
export function dicomSize(bytes: Buffer, path: string, frame?: number): Size {
  const { columns, rows } = readingDicom(path, () => open(bytes, path, frame)).layout
  return { width: columns, height: rows }
}

/**
 * Shows one frame as a viewer would: stored values through the rescale or modality LUT, then the first window (LINEAR,
 * LINEAR_EXACT or SIGMOID), else the VOI LUT, else minimum to maximum; MONOCHROME1 inverted; colour as stored.
 * @param frame from 1; a file of several frames needs it.
 * @returns `rgb` [height, width, 3], 0..255.
 * @throws {DataError} for a damaged file, a frame that is not there, or one that must be chosen.
 * @throws {UnsupportedError} naming the transfer syntax or kind of pixels that is not shown.
 */
export async function decodeDicom(bytes: Buffer, path: string, frame?: number): Promise<Decoded> {
  return readingDicom(path, async () => {
    const opened = open(bytes, path, frame)
    const { dataSet, syntax, layout } = opened
    const pixels = isCompressed(syntax)
      ? await decompress(syntax, encapsulatedFrame(opened), layout, path)
      : { ...layout, bytes: nativeFrame(opened, path) }
    return { width: layout.columns, height: layout.rows, ...showFrame(dataSet, pixels, opened.frame, path) }
  })
}

function open(bytes: Buffer, path: string, chosen: number | undefined): Opened {
  const dataSet = parseDicom(bytes)
  const syntax = dataSet.string(tags.transferSyntax) ?? ''
  if (syntaxName(syntax) === undefined) {
    throw unsupportedImage(path, `transfer syntax ${syntax || '(none)'} is not one we decode`, supportedHint)
  }
  const pixelData = dataSet.elements[tags.pixelData]
  if (!pixelData && (dataSet.elements[tags.floatPixels] || dataSet.elements[tags.doublePixels])) {
    throw unsupportedImage(path, 'pixels as floating-point numbers', integerHint)
  }
  if (!pixelData) throw new DataError(`${path} is a DICOM file without pixel data`, { detail: { path } })
  const layout = readLayout(dataSet, path)
  const frames = Math.max(dataSet.intString(tags.frames) || 1, 1)
  if (chosen === undefined && frames > 1) {
    throw new DataError(`${path} has ${frames} frames`, {
      detail: { path, frames },
      hint: `Choose one by its number: ${path}#1 to ${path}#${frames}.`,
    })
  }
  if ((chosen ?? 1) > frames)
    throw new DataError(`${path}: the file has ${frames} frames`, { detail: { path, frames } })
  return { dataSet, pixelData, syntax, layout, frames, frame: (chosen ?? 1) - 1 }
}

const integerHint = 'Scale it to whole numbers of 8 or 16 bits, or save the picture as a viewer shows it.'
const supportedHint = 'Convert it to explicit little endian, for example with dcmtk: dcmdjpeg, dcmdrle or dcmconv.'

/** The attributes of a file; call it, and read them, inside `readingDicom`. */
export function parseDicom(bytes: Buffer): DataSet {
  let attributes = 0
  return dicomParser.parseDicom(bytes, {
    inflater: inflate,
    // The parser asks for it before and after each attribute at the top.
    get untilTag() {
      attributes += 1
      if (attributes > 2 * mostAttributes) throw new Error(`it has more than ${mostAttributes} attributes`)
      return undefined
    },
  } as dicomParser.ParseDicomOptions)
}

/**
 * Runs what parses a file or reads its attributes, which may reach past its end.
 * @throws {DataError} when the file is damaged.
 */
export function readingDicom<T>(path: string, work: () => T): T {
  return guarded(work, (reason, cause) => {
    // dicom-parser throws texts, or {exception: text} when it had read a part.
    const { exception } = Object(cause) as { exception?: unknown }
    return notAnImage(path)(exception === undefined ? reason : reasonOf(exception), cause)
  })
}

/** The file with everything from `position` on inflated. */
function inflate(bytes: Uint8Array, position: number): Uint8Array {
  const rest = inflateRawSync(bytes.subarray(position), { maxOutputLength: inflateLimit })
  return Buffer.concat([bytes.subarray(0, position), rest])
}

function readLayout(dataSet: DataSet, path: string): Layout {
  const number = (tag: string, absent?: number): number => {
    const value = dataSet.uint16(tag) ?? absent
    if (value === undefined) throw new DataError(`${path} lacks the DICOM attribute ${tag}`, { detail: { path, tag } })
    return value
  }
  const bitsAllocated = number(tags.bitsAllocated)
  const bitsStored = number(tags.bitsStored, bitsAllocated)
  const layout: Layout = {
    rows: number(tags.rows),
    columns: number(tags.columns),
    samples: number(tags.samples, 1),
    bitsAllocated,
    bitsStored,
    highBit: number(tags.highBit, bitsStored - 1),
    signed: number(tags.representation, 0) === 1,
    planar: number(tags.planar, 0) === 1,
    photometric: dataSet.string(tags.photometric) ?? '',
  }
  checkPixels(layout.columns, layout.rows, path)
  if (bitsAllocated !== 8 && bitsAllocated !== 16) {
    throw unsupportedImage(path, `${bitsAllocated} bits per sample`, integerHint)
  }
  if (
    bitsStored < 1 ||
    bitsStored > bitsAllocated ||
    layout.highBit >= bitsAllocated ||
    layout.highBit + 1 < bitsStored
  ) {
    const bits = `${bitsStored} bits below bit ${layout.highBit} of ${bitsAllocated}`
    throw new DataError(`${path} declares impossible samples: ${bits}`, { detail: { path } })
  }
  const samples = samplesOf[layout.photometric]
  if (samples === undefined) {
    throw unsupportedImage(path, `photometric interpretation "${layout.photometric}"`, 'Convert it to RGB.')
  }
  if (layout.samples !== samples) {
    throw new DataError(`${path} declares ${layout.samples} samples for ${layout.photometric}`, { detail: { path } })
  }
  return layout
}

const samplesOf: Record<string, number> = {
  MONOCHROME1: 1,
  MONOCHROME2: 1,
  'PALETTE COLOR': 1,
  RGB: 3,
  YBR_FULL: 3,
  YBR_FULL_422: 3,
  YBR_RCT: 3,
  YBR_ICT: 3,
}

/** Bytes of an uncompressed frame, 16-bit words little endian. */
function nativeFrame({ dataSet, pixelData, syntax, layout, frame, frames }: Opened, path: string): Uint8Array {
  // 4:2:2 keeps Y Y Cb Cr for two pixels.
  const samples = layout.photometric === 'YBR_FULL_422' ? 2 : layout.samples
  const size = (layout.rows * layout.columns * samples * layout.bitsAllocated) / 8
  const { dataOffset, length } = pixelData
  const available = Math.min(length, dataSet.byteArray.length - dataOffset)
  if (available < size * frames) {
    const message = `${path} is truncated: ${available} bytes of pixel data where ${size * frames} were declared`
    throw new DataError(message, { detail: { path } })
  }
  const start = dataOffset + frame * size
  const bytes = dataSet.byteArray.subarray(start, start + size)
  const words = layout.bitsAllocated === 16 || pixelData.vr === 'OW'
  return syntax === bigEndian && words && size % 2 === 0 ? Buffer.from(bytes).swap16() : bytes
}

/** The compressed stream of a frame, its fragments joined. */
function encapsulatedFrame({ dataSet, pixelData, frame, frames }: Opened): Uint8Array {
  const { fragments = [], basicOffsetTable: offsets = [] } = pixelData
  if (frames === 1) return joined(dataSet, pixelData, 0, fragments.length)
  if (offsets.length > 0) return dicomParser.readEncapsulatedImageFrame(dataSet, pixelData, frame)
  if (fragments.length === frames) return joined(dataSet, pixelData, frame, 1)
  const found = dicomParser.createJPEGBasicOffsetTable(dataSet, pixelData)
  return dicomParser.readEncapsulatedImageFrame(dataSet, pixelData, frame, found)
}

function joined(dataSet: DataSet, pixelData: Element, first: number, count: number): Uint8Array {
  return dicomParser.readEncapsulatedPixelDataFromFragments(dataSet, pixelData, first, count)
}
