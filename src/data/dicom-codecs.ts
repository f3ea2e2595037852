/**
 * Compressed DICOM pixels to plain samples. Codecs are loaded when a file needs one. Chosen for being what the DICOM
 * viewers on npm use: OpenJPEG and CharLS built to WebAssembly (@cornerstonejs), jpeg-lossless-decoder-js for the
 * lossless JPEG that libjpeg-turbo in sharp does not read.
 */
import sharp from 'sharp'
import { DataError, guarded } from '../errors.js'
import { checkPixels, notAnImage, unsupportedImage } from './image-errors.js'

/** How the samples of a frame are stored. */
export interface Layout {
  rows: number
  columns: number
  samples: number
  bitsAllocated: number
  bitsStored: number
  highBit: number
  signed: boolean
  /** Samples of one kind after those of another, instead of pixel by pixel. */
  planar: boolean
  photometric: string
}

/** A frame's samples: `bytes` [rows, columns, samples] (or planar), 16-bit words little endian. */
export interface Pixels extends Layout {
  bytes: Uint8Array
}

type Codec = (data: Uint8Array, layout: Layout, path: string) => Promise<Pixels> | Pixels

const syntaxes: Record<string, { name: string; codec?: Codec }> = {
  '1.2.840.10008.1.2': { name: 'implicit little endian' },
  '1.2.840.10008.1.2.1': { name: 'explicit little endian' },
  '1.2.840.10008.1.2.1.99': { name: 'deflated explicit little endian' },
  '1.2.840.10008.1.2.2': { name: 'explicit big endian' },
  '1.2.840.10008.1.2.4.50': { name: 'JPEG baseline', codec: jpeg },
  '1.2.840.10008.1.2.4.51': { name: 'JPEG extended', codec: jpeg },
  '1.2.840.10008.1.2.4.57': { name: 'JPEG lossless', codec: jpegLossless },
  '1.2.840.10008.1.2.4.70': { name: 'JPEG lossless, first-order prediction', codec: jpegLossless },
  '1.2.840.10008.1.2.4.80': { name: 'JPEG-LS lossless', codec: jpegLs },
  '1.2.840.10008.1.2.4.81': { name: 'JPEG-LS near-lossless', codec: jpegLs },
  '1.2.840.10008.1.2.4.90': { name: 'JPEG 2000 lossless', codec: jpeg2000 },
  '1.2.840.10008.1.2.4.91': { name: 'JPEG 2000', codec: jpeg2000 },
  '1.2.840.10008.1.2.5': { name: 'RLE', codec: runLengths },
}

/** The name of a transfer syntax that is decoded here. */
export function syntaxName(uid: string): string | undefined {
  return syntaxes[uid]?.name
}

export function isCompressed(uid: string): boolean {
  return syntaxes[uid]?.codec !== undefined
}

/** @throws {DataError} when the stream is damaged or is not the size that the file declares. */
export async function decompress(uid: string, data: Uint8Array, layout: Layout, path: string): Promise<Pixels> {
  const { name, codec } = syntaxes[uid]
  const decode = async (): Promise<Pixels> => {
    const pixels = await (codec as Codec)(data, layout, path)
    // Codecs give every pixel its three samples, whatever was shared in the stream.
    if (pixels.photometric === 'YBR_FULL_422') pixels.photometric = 'YBR_FULL'
    const expected = (layout.rows * layout.columns * layout.samples * pixels.bitsAllocated) / 8
    if (pixels.bytes.length < expected) throw new Error(`${pixels.bytes.length} bytes where ${expected} were declared`)
    return pixels
  }
  return guarded(decode, (reason, cause) =>
    // Emscripten throws numbers.
    notAnImage(path)(`${name}: ${cause instanceof Error ? reason : 'the codec failed'}`, cause),
  )
}

/** Frame header of a JPEG or JPEG-LS stream: what its SOF marker says, before anything is allocated for it. */
function jpegHeader(data: Uint8Array): {
  bits: number
  rows: number
  columns: number
  samples: number
  tagged: boolean
} {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  let tagged = false
  for (let at = 2; at + 9 < data.length; at += 2 + view.getUint16(at + 2)) {
    while (data[at + 1] === 0xff) at += 1
    const marker = data[at + 1]
    if (data[at] !== 0xff || marker === 0xda) break
    // JFIF and Adobe tell a decoder the colour space.
    tagged ||= marker === 0xe0 || marker === 0xee
    const isFrame = marker === 0xf7 || (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker))
    if (!isFrame) continue
    return {
      bits: data[at + 4],
      rows: view.getUint16(at + 5),
      columns: view.getUint16(at + 7),
      samples: data[at + 9],
      tagged,
    }
  }
  throw new Error('the stream has no frame header')
}

/**
 * Holds a stream against the file before a codec sees it. The end marker matters because codecs fill what is missing;
 * only zeros, to an even length, may follow it.
 */
function checkStream(
  data: Uint8Array,
  stream: { rows: number; columns: number; samples: number },
  layout: Layout,
  path: string,
): void {
  checkPixels(stream.columns, stream.rows, path)
  const shape = ({ rows, columns, samples }: typeof stream): string => `${columns} x ${rows} x ${samples}`
  if (shape(stream) === shape(layout)) {
    const end = data.findLastIndex((byte) => byte !== 0)
    if (end > 0 && data[end - 1] === 0xff && data[end] === 0xd9) return
    throw new Error('the stream is truncated: it has no end marker')
  }
  throw new DataError(`${path}: the compressed image is ${shape(stream)}, the file declares ${shape(layout)}`, {
    detail: { path },
  })
}

async function jpeg(data: Uint8Array, layout: Layout, path: string): Promise<Pixels> {
  const header = jpegHeader(data)
  checkStream(data, header, layout, path)
  if (header.bits !== 8) throw unsupportedImage(path, `lossy JPEG of ${header.bits} bits`, 'Decompress it first.')
  const colour = layout.samples === 3
  // Without a marker of its own a stream means what the file says; decoders only guess.
  const stream = colour && !header.tagged ? withAdobeMarker(data, layout.photometric !== 'RGB') : data
  const bytes = await sharp(stream, { ignoreIcc: true, failOn: 'warning', limitInputPixels: false })
    .toColourspace(colour ? 'srgb' : 'b-w')
    .raw()
    .toBuffer()
  return { ...layout, bytes, bitsAllocated: 8, bitsStored: 8, highBit: 7, planar: false, photometric: asRgb(layout) }
}

function withAdobeMarker(data: Uint8Array, ybr: boolean): Uint8Array {
  const marker = Buffer.from(`\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00${ybr ? '\x01' : '\x00'}`, 'latin1')
  return Buffer.concat([data.subarray(0, 2), marker, data.subarray(2)])
}

async function jpegLossless(data: Uint8Array, layout: Layout, path: string): Promise<Pixels> {
  checkStream(data, jpegHeader(data), layout, path)
  const { Decoder } = await import('jpeg-lossless-decoder-js')
  const own = new Uint8Array(data).buffer
  const samples = new Decoder().decode(own, 0, own.byteLength)
  return wordsOf(samples, layout)
}

function wordsOf(samples: Uint8Array | Uint16Array, layout: Layout): Pixels {
  const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength)
  return { ...layout, bytes, bitsAllocated: samples.BYTES_PER_ELEMENT * 8, planar: false }
}

/** A new instance per image, whose memory a damaged stream cannot leave broken for the next; what it prints is dropped. */
const quiet = () => ({ print: () => {}, printErr: () => {} })

async function jpegLs(data: Uint8Array, layout: Layout, path: string): Promise<Pixels> {
  checkStream(data, jpegHeader(data), layout, path)
  const { default: load } = await import('@cornerstonejs/codec-charls/decodewasmjs')
  const { JpegLSDecoder } = await load(quiet())
  const decoder = new JpegLSDecoder()
  return decoded(decoder, data, layout, () => ({
    // CharLS undoes lines of components into pixels.
    planar: layout.samples > 1 && decoder.getInterleaveMode() === 0,
  }))
}

/** What the SIZ marker of a JPEG 2000 stream says, also of one inside a JP2 file. */
function jpeg2000Header(data: Uint8Array): { rows: number; columns: number; samples: number } {
  const start = Buffer.from(data.buffer, data.byteOffset, data.length).indexOf('ff4fff51', 0, 'hex')
  if (start < 0 || start + 42 > data.length) throw new Error('the stream has no size marker')
  const view = new DataView(data.buffer, data.byteOffset + start)
  const [right, bottom, left, top] = [8, 12, 16, 20].map((at) => view.getUint32(at))
  return { rows: bottom - top, columns: right - left, samples: view.getUint16(40) }
}

async function jpeg2000(data: Uint8Array, layout: Layout, path: string): Promise<Pixels> {
  checkStream(data, jpeg2000Header(data), layout, path)
  const { default: load } = await import('@cornerstonejs/codec-openjpeg/decodewasmjs')
  const { J2KDecoder } = await load(quiet())
  return decoded(new J2KDecoder(), data, layout, () => ({
    photometric: layout.photometric.startsWith('YBR_FULL') ? layout.photometric : asRgb(layout),
  }))
}

/** @param differs what the decoder made other than `layout` says, asked once it has decoded. */
function decoded(decoder: WasmDecoder, data: Uint8Array, layout: Layout, differs: () => Partial<Layout>): Pixels {
  try {
    decoder.getEncodedBuffer(data.length).set(data)
    decoder.decode()
    const bytes = decoder.getDecodedBuffer().slice()
    const bitsAllocated = decoder.getFrameInfo().bitsPerSample > 8 ? 16 : 8
    return { ...layout, bytes, bitsAllocated, planar: false, ...differs() }
  } finally {
    decoder.delete()
  }
}

/** RLE (PS3.5 annex G): one PackBits segment per byte of a sample, most significant first, sample by sample. */
function runLengths(data: Uint8Array, layout: Layout): Pixels {
  const width = layout.bitsAllocated / 8
  const count = layout.rows * layout.columns
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  const segments = view.getUint32(0, true)
  if (segments !== width * layout.samples) throw new Error(`${segments} segments for ${layout.samples} samples`)
  const bytes = new Uint8Array(count * width * layout.samples)
  for (let segment = 0; segment < segments; segment += 1) {
    const start = view.getUint32(4 + 4 * segment, true)
    const end = segment + 1 < segments ? view.getUint32(8 + 4 * segment, true) : data.length
    const sample = Math.floor(segment / width)
    const plane = unpackBits(data.subarray(start, end), count)
    const offset = sample * count * width + (width - 1 - (segment % width))
    for (let index = 0; index < count; index += 1) bytes[offset + index * width] = plane[index]
  }
  return { ...layout, bytes, planar: true }
}

function unpackBits(packed: Uint8Array, count: number): Uint8Array {
  const plain = new Uint8Array(count)
  let to = 0
  for (let from = 0; to < count; ) {
    if (from >= packed.length) throw new Error(`a segment ends after ${to} of ${count} bytes`)
    const control = packed[from]
    from += 1
    if (control < 128) {
      const literal = packed.subarray(from, Math.min(from + control + 1, from + count - to))
      plain.set(literal, to)
      to += literal.length
      from += control + 1
    } else if (control > 128) {
      plain.fill(packed[from], to, to + 257 - control)
      to += 257 - control
      from += 1
    }
  }
  return plain
}

function asRgb({ photometric }: Layout): string {
  return photometric.startsWith('YBR') ? 'RGB' : photometric
}
