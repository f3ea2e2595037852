/** Samples of a DICOM frame to 8-bit RGB: rescale, window, palettes and colour spaces of PS3.3 C.7.6.3 and C.11. */
import type { DataSet } from 'dicom-parser'
import { DataError } from '../errors.js'
import type { ImageNote } from './decoded.js'
import type { Pixels } from './dicom-codecs.js'
import { unsupportedImage } from './image-errors.js'

const tags = {
  windowCenter: 'x00281050',
  windowWidth: 'x00281051',
  intercept: 'x00281052',
  slope: 'x00281053',
  voiFunction: 'x00281056',
  modalityLut: 'x00283000',
  voiLut: 'x00283010',
  lutDescriptor: 'x00283002',
  lutData: 'x00283006',
  paletteDescriptors: ['x00281101', 'x00281102', 'x00281103'],
  palettes: ['x00281201', 'x00281202', 'x00281203'],
  sharedGroups: 'x52009229',
  frameGroups: 'x52009230',
  frameVoi: 'x00289132',
  frameTransformation: 'x00289145',
}

/** A value to what is shown for it, or to what it measures. */
type Curve = (value: number) => number

interface Lut {
  first: number
  values: number[]
  /** The largest value that its bits hold. */
  top: number
}

/** @param frame from 0. @returns `rgb` [rows, columns, 3]. */
export function showFrame(
  dataSet: DataSet,
  pixels: Pixels,
  frame: number,
  path: string,
): { rgb: Uint8Array; notes: ImageNote[] } {
  const notes: ImageNote[] = []
  if (pixels.samples === 3) return { rgb: showColour(pixels), notes }
  const words = wordsOf(pixels)
  const tables =
    pixels.photometric === 'PALETTE COLOR'
      ? tags.palettes.map((tag, index) => paletteTable(dataSet, tags.paletteDescriptors[index], tag, pixels, path))
      : [greyTable(dataSet, pixels, words, frame, path, notes)]
  const rgb = new Uint8Array(words.length * 3)
  const [red, green = red, blue = red] = tables
  const code = codeOf(pixels)
  for (let index = 0; index < words.length; index += 1) {
    const value = code(words[index])
    rgb[3 * index] = red[value]
    rgb[3 * index + 1] = green[value]
    rgb[3 * index + 2] = blue[value]
  }
  return { rgb, notes }
}

/** The samples as machine words, unused bits and all. */
function wordsOf({ bytes, rows, columns, samples, bitsAllocated, photometric }: Pixels): Uint8Array | Uint16Array {
  const count = rows * columns * (photometric === 'YBR_FULL_422' ? 2 : samples)
  if (bitsAllocated === 8) return bytes.subarray(0, count)
  // A copy, because a view needs an even start; Buffer's slice() would not make one.
  return new Uint16Array(new Uint8Array(bytes.subarray(0, count * 2)).buffer)
}

/** A word's stored bits, as an unsigned code. */
function codeOf({ bitsStored, highBit }: Pixels): Curve {
  const shift = highBit + 1 - bitsStored
  const mask = 2 ** bitsStored - 1
  return (word) => (word >> shift) & mask
}

/** The number that a code stands for. */
function storedValue({ signed, bitsStored }: Pixels): Curve {
  return signed ? (code) => (code < 2 ** (bitsStored - 1) ? code : code - 2 ** bitsStored) : (code) => code
}

/** The grey level of every code. Windows are functions of the value, so 2^bits evaluations serve any image. */
function greyTable(
  dataSet: DataSet,
  pixels: Pixels,
  words: Uint8Array | Uint16Array,
  frame: number,
  path: string,
  notes: ImageNote[],
): Uint8Array {
  const groups = [tags.frameGroups, tags.sharedGroups].map(
    (tag) => dataSet.elements[tag]?.items?.[tag === tags.frameGroups ? frame : 0]?.dataSet,
  )
  /** Attributes of this frame, of all frames, of the file: the first that has the tag. */
  const holder = (macro: string, tag: string): DataSet | undefined =>
    [...groups.map((group) => itemOf(group, macro)), dataSet].find((candidate) => candidate?.elements[tag])
  const stored = storedValue(pixels)
  const measure = modality(holder(tags.frameTransformation, tags.slope) ?? dataSet, pixels.signed, path)
  const value: Curve = (code) => measure(stored(code))
  const show =
    windowed(holder(tags.frameVoi, tags.windowCenter), path, notes) ??
    voi(dataSet, pixels.signed, path) ??
    spread(words, codeOf(pixels), value)
  const invert = pixels.photometric === 'MONOCHROME1'
  return Uint8Array.from({ length: 2 ** pixels.bitsStored }, (_, code) => {
    const level = toByte(show(value(code)))
    return invert ? 255 - level : level
  })
}

/** Stored value to measured value: the modality LUT, else slope and intercept. */
function modality(dataSet: DataSet, signed: boolean, path: string): Curve {
  const lut = itemOf(dataSet, tags.modalityLut)
  if (lut) return through(readLut(lut, tags.lutDescriptor, tags.lutData, signed, path))
  const slope = dataSet.floatString(tags.slope) ?? 1
  const intercept = dataSet.floatString(tags.intercept) ?? 0
  if (!Number.isFinite(slope) || !Number.isFinite(intercept)) {
    throw new DataError(`${path} has a rescale that is not a number`, { detail: { path } })
  }
  return (value) => value * slope + intercept
}

/**
 * The first window that shows anything, to 0..255 (C.11.2.1.2 and C.11.2.1.3). Files hold windows of width 0, and LINEAR
 * ones below 1, which the standard rules out; they are passed over, as viewers do, and noted.
 */
function windowed(dataSet: DataSet | undefined, path: string, notes: ImageNote[]): Curve | undefined {
  if (!dataSet?.elements[tags.windowCenter] || !dataSet.elements[tags.windowWidth]) return undefined
  const name = dataSet.string(tags.voiFunction) || 'LINEAR'
  if (!['LINEAR', 'LINEAR_EXACT', 'SIGMOID'].includes(name)) throw unsupportedImage(path, `VOI LUT function "${name}"`)
  const count = dataSet.numStringValues(tags.windowWidth) ?? 0
  for (let index = 0; index < count; index += 1) {
    const [center = Number.NaN, width = Number.NaN] = [tags.windowCenter, tags.windowWidth].map((tag) =>
      dataSet.floatString(tag, index),
    )
    if (Number.isFinite(center) && Number.isFinite(width) && (name === 'LINEAR' ? width >= 1 : width > 0)) {
      return windowCurve(name, center, width)
    }
    const message = `a window of centre ${center} and width ${width} shows nothing and is passed over`
    notes.push({ kind: 'window_replaced', message })
  }
  return undefined
}

function windowCurve(name: string, center: number, width: number): Curve {
  if (name === 'SIGMOID') return (value) => 255 / (1 + Math.exp((-4 * (value - center)) / width))
  if (name === 'LINEAR_EXACT') return ramp(center - width / 2, center + width / 2)
  return ramp(center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2)
}

/** The first VOI LUT, to 0..255. */
function voi(dataSet: DataSet, signed: boolean, path: string): Curve | undefined {
  const item = itemOf(dataSet, tags.voiLut)
  if (!item) return undefined
  const lut = readLut(item, tags.lutDescriptor, tags.lutData, signed, path)
  const look = through(lut)
  return (value) => (look(value) * 255) / lut.top
}

/** Minimum to maximum of what is measured in this frame. */
function spread(words: Uint8Array | Uint16Array, code: Curve, value: Curve): Curve {
  let low = Number.POSITIVE_INFINITY
  let high = Number.NEGATIVE_INFINITY
  for (const word of words) {
    const measured = value(code(word))
    if (measured < low) low = measured
    if (measured > high) high = measured
  }
  return ramp(low, high)
}

/** 0 up to `low`, 255 above `high`, straight in between; a step where the two meet. */
function ramp(low: number, high: number): Curve {
  return (value) => (value <= low ? 0 : value > high ? 255 : ((value - low) / (high - low)) * 255)
}

function paletteTable(dataSet: DataSet, descriptor: string, data: string, pixels: Pixels, path: string): Uint8Array {
  if (!dataSet.elements[data]) throw unsupportedImage(path, `PALETTE COLOR without ${data} (a segmented palette?)`)
  const lut = readLut(dataSet, descriptor, data, pixels.signed, path)
  const look = through(lut)
  const stored = storedValue(pixels)
  const length = 2 ** pixels.bitsStored
  return Uint8Array.from({ length }, (_, code) => toByte((look(stored(code)) * 255) / lut.top))
}

function through({ first, values }: Lut): Curve {
  return (value) => values[Math.min(Math.max(Math.round(value) - first, 0), values.length - 1)]
}

function readLut(dataSet: DataSet, descriptor: string, data: string, signed: boolean, path: string): Lut {
  // 65536 entries are written as 0. The first value is signed like the samples where an implicit file does not say.
  const count = dataSet.uint16(descriptor, 0) || 65536
  const vr = dataSet.elements[descriptor]?.vr
  const isSigned = vr === undefined ? signed : vr === 'SS'
  const first = (isSigned ? dataSet.int16(descriptor, 1) : dataSet.uint16(descriptor, 1)) ?? 0
  const bits = dataSet.uint16(descriptor, 2) ?? 0
  const bytes = dataSet.elements[data]?.length ?? 0
  if (bits < 8 || bits > 16 || bytes < count * (bits === 8 && bytes < count * 2 ? 1 : 2)) {
    const message = `${path} has a lookup table ${data} of ${count} entries and ${bits} bits in ${bytes} bytes`
    throw new DataError(message, { detail: { path } })
  }
  const start = dataSet.elements[data].dataOffset
  const wide = bytes >= count * 2
  const values = Array.from({ length: count }, (_, index) =>
    wide ? (dataSet.uint16(data, index) as number) : dataSet.byteArray[start + index],
  )
  return { first, values, top: 2 ** bits - 1 }
}

function showColour(pixels: Pixels): Uint8Array {
  const { rows, columns, planar, photometric, bitsStored } = pixels
  const count = rows * columns
  const words = wordsOf(pixels)
  const code = codeOf(pixels)
  const top = 2 ** bitsStored - 1
  /** Where sample `sample` of pixel `pixel` is. */
  const place =
    photometric === 'YBR_FULL_422'
      ? (pixel: number, sample: number) => (pixel >> 1) * 4 + (sample === 0 ? pixel & 1 : sample + 1)
      : planar
        ? (pixel: number, sample: number) => sample * count + pixel
        : (pixel: number, sample: number) => pixel * 3 + sample
  const convert = photometric.startsWith('YBR_FULL') ? ybrToRgb : undefined
  const rgb = new Uint8Array(count * 3)
  for (let pixel = 0; pixel < count; pixel += 1) {
    for (let sample = 0; sample < 3; sample += 1) {
      rgb[3 * pixel + sample] = toByte((code(words[place(pixel, sample)]) * 255) / top)
    }
    convert?.(rgb, 3 * pixel)
  }
  return rgb
}

/** PS3.3 C.7.6.3.1.2, in place. */
function ybrToRgb(rgb: Uint8Array, at: number): void {
  const [y, cb, cr] = [rgb[at], rgb[at + 1] - 128, rgb[at + 2] - 128]
  rgb[at] = toByte(y + 1.402 * cr)
  rgb[at + 1] = toByte(y - 0.344136 * cb - 0.714136 * cr)
  rgb[at + 2] = toByte(y + 1.772 * cb)
}

/** The first item of a sequence. */
function itemOf(dataSet: DataSet | undefined, tag: string): DataSet | undefined {
  return dataSet?.elements[tag]?.items?.[0]?.dataSet
}

function toByte(value: number): number {
  return Math.min(Math.max(Math.round(value), 0), 255)
}
