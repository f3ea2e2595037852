/**
 * One slice of a NIfTI volume as a mask. nifti-reader-js (of the web viewers) knows both header versions and endiannesses;
 * what it does not do is bound a gzip bomb or turn voxels to where a viewer shows them, so that is here.
 */
import { promisify } from 'node:util'
import { constants, createGunzip, gunzip } from 'node:zlib'
import { NIFTI1, NIFTI2 } from 'nifti-reader-js'
import { checkPixels, notAnImage, unsupportedImage } from '../../data/image-errors.js'
import { DataError, guarded } from '../../errors.js'
import { emptyMask, type Mask } from './mask.js'

/**
 * How voxel axes become x (rightwards) and y (downwards) of the picture:
 * - `affine`: through the file's own affine, as radiologists look: x towards the patient's left (sagittal: posterior), y
 *   towards posterior (coronal and sagittal: inferior). What ITK, 3D Slicer and dcm2niix write.
 * - `voxel`: x = first in-plane axis, y = second, nothing flipped.
 * - `numpy`: x = second, y = first: an array [row, column] that was saved as it was.
 */
export const niftiOrientations = ['affine', 'voxel', 'numpy'] as const
/** One of `niftiOrientations`: `affine`, `voxel` or `numpy`. */
export type NiftiOrientation = (typeof niftiOrientations)[number]

export interface NiftiOptions {
  /** Label ids that are inside; without it, every value but 0. */
  value?: readonly number[]
  /** Voxel axis that is cut across; default: the one that has a single voxel, else `k`. */
  axis?: 'i' | 'j' | 'k'
  /** Index along that axis, from 0; needed where there is more than one. */
  slice?: number
  /** Index of the fourth axis, from 0; needed where there is more than one. */
  volume?: number
  /** Default `affine`, which is refused where the affine is absent, or is the identity and was not asked for. */
  orientation?: NiftiOrientation
}

interface Header {
  fields: NIFTI1 | NIFTI2
  /** The sform's three rows, read here because the library keeps the affine of a qform only once that has a higher code. */
  sform: number[][]
}

type Axis = 0 | 1 | 2

interface Kind {
  bytes: number
  get(view: DataView, at: number, little: boolean): number
}

/** Data types that labels are kept in, by NIfTI code. */
const kinds: Record<number, Kind> = {
  2: { bytes: 1, get: (view, at) => view.getUint8(at) },
  256: { bytes: 1, get: (view, at) => view.getInt8(at) },
  4: { bytes: 2, get: (view, at, little) => view.getInt16(at, little) },
  512: { bytes: 2, get: (view, at, little) => view.getUint16(at, little) },
  8: { bytes: 4, get: (view, at, little) => view.getInt32(at, little) },
  768: { bytes: 4, get: (view, at, little) => view.getUint32(at, little) },
  16: { bytes: 4, get: (view, at, little) => view.getFloat32(at, little) },
  64: { bytes: 8, get: (view, at, little) => view.getFloat64(at, little) },
  1024: { bytes: 8, get: (view, at, little) => Number(view.getBigInt64(at, little)) },
  1280: { bytes: 8, get: (view, at, little) => Number(view.getBigUint64(at, little)) },
}

/** Volumes above this are refused before they are inflated. */
const largestVolume = 2 ** 30

/** Enough compressed bytes for the header; what they inflate to is bounded too, by deflate itself (about 1000 to 1). */
const headerPrefix = 4096

export function isNifti(bytes: Buffer): boolean {
  const size = bytes.length >= 352 ? [bytes.readInt32LE(0), bytes.readInt32BE(0)] : []
  return isGzip(bytes) || size.includes(348) || size.includes(540)
}

const isGzip = (bytes: Buffer): boolean => bytes[0] === 0x1f && bytes[1] === 0x8b

/** @throws {DataError} for a damaged file, or naming the choice (slice, volume, orientation) that has to be made. */
export async function readNiftiMask(bytes: Buffer, path: string, options: NiftiOptions): Promise<Mask> {
  const header = readHeader(isGzip(bytes) ? await inflatedStart(bytes, path) : bytes, path)
  const { fields } = header
  const kind = kinds[fields.datatypeCode]
  if (!kind) throw unsupportedImage(path, `NIfTI data type ${fields.datatypeCode} holds no labels`)
  const [dimensions, ...extents] = fields.dims
  const extent = (axis: number): number => (axis <= dimensions ? extents[axis - 1] : 1)
  const shape = [extent(1), extent(2), extent(3)] as const
  const volumes = extent(4)
  if (![...shape, volumes].every((length) => Number.isInteger(length) && length > 0)) {
    throw new DataError(`${path} declares ${shape.join(' x ')} voxels in ${volumes} volumes`)
  }
  if (dimensions > 4 && extents.slice(4, dimensions).some((length) => length > 1)) {
    throw unsupportedImage(path, `${dimensions} dimensions; a mask has three, and a fourth that "volume" chooses from`)
  }
  const size = shape[0] * shape[1] * shape[2] * volumes * kind.bytes
  const offset = Math.round(fields.vox_offset)
  if (size > largestVolume) throw unsupportedImage(path, `${size} bytes of voxels; at most ${largestVolume} are read`)
  if (!(offset >= 348 && offset < largestVolume)) throw new DataError(`${path} has its voxels at byte ${offset}`)

  const axis = cutAxis(options, shape)
  const slice = chosen(options.slice, shape[axis], `slice along axis ${'ijk'[axis]}`, 'slice', path)
  const volume = chosen(options.volume, volumes, 'volume', 'volume', path)
  const plane = pictureAxes(header, axis, options.orientation, path)
  checkPixels(shape[plane.x.axis], shape[plane.y.axis], path)

  const voxels = shape[0] * shape[1] * shape[2]
  // What the slice lies in: itself where it is cut across the last axis, else its volume.
  const [start, count] = axis === 2 ? [slice * shape[0] * shape[1], shape[0] * shape[1]] : [0, voxels]
  const from = offset + (volume * voxels + start) * kind.bytes
  const data = await readRange(bytes, from, count * kind.bytes, offset + size, path)
  const view = new DataView(data.buffer, data.byteOffset, data.length)
  const slope = Number.isFinite(fields.scl_slope) && fields.scl_slope !== 0 ? fields.scl_slope : 1
  const intercept = Number.isFinite(fields.scl_slope) && fields.scl_slope !== 0 ? fields.scl_inter || 0 : 0
  const strides = [1, shape[0], shape[0] * shape[1]] as const
  const mask = emptyMask({ width: shape[plane.x.axis], height: shape[plane.y.axis] })
  const first = axis === 2 ? 0 : slice * strides[axis]
  const ids = options.value && new Set(options.value)
  for (let y = 0; y < mask.height; y += 1) {
    const row = (plane.y.flipped ? mask.height - 1 - y : y) * strides[plane.y.axis]
    for (let x = 0; x < mask.width; x += 1) {
      const column = (plane.x.flipped ? mask.width - 1 - x : x) * strides[plane.x.axis]
      const value = slope * kind.get(view, (first + row + column) * kind.bytes, fields.littleEndian) + intercept
      if (Number.isNaN(value)) throw new DataError(`${path} has a voxel that is not a number in slice ${slice}`)
      mask.inside[y * mask.width + x] = (ids ? ids.has(value) : value !== 0) ? 1 : 0
    }
  }
  return mask
}

/** The header alone, its extensions cut off: their lengths are the file's word and nothing here needs them. */
function readHeader(bytes: Buffer, path: string): Header {
  return guarded(() => {
    const second = [bytes.readInt32LE(0), bytes.readInt32BE(0)].includes(540)
    const start = new Uint8Array(second ? 544 : 352)
    start.set(bytes.subarray(0, start.length - 4))
    const magic = Buffer.from(start.buffer).toString('latin1', second ? 4 : 344, second ? 7 : 347)
    if (magic === 'ni1' || magic === 'ni2')
      throw new Error('its voxels lie in another file (.img); save it as one .nii')
    if (magic !== (second ? 'n+2' : 'n+1')) throw new Error('it has no NIfTI header')
    const fields = second ? new NIFTI2() : new NIFTI1()
    fields.readHeader(start.buffer)
    const view = new DataView(start.buffer)
    const entry = (row: number, column: number): number =>
      second
        ? view.getFloat64(400 + 32 * row + 8 * column, fields.littleEndian)
        : view.getFloat32(280 + 16 * row + 4 * column, fields.littleEndian)
    return { fields, sform: [0, 1, 2].map((row) => [0, 1, 2, 3].map((column) => entry(row, column))) }
  }, notAnImage(path))
}

const unzip = promisify<Buffer, object, Buffer>(gunzip)

async function inflatedStart(bytes: Buffer, path: string): Promise<Buffer> {
  const prefix = bytes.subarray(0, headerPrefix)
  return guarded(() => unzip(prefix, { finishFlush: constants.Z_SYNC_FLUSH }), notAnImage(path))
}

/**
 * `length` bytes of the plain file, of which no more is kept. The file must have `declared` bytes, and may have a little
 * that some tools append.
 */
async function readRange(bytes: Buffer, from: number, length: number, declared: number, path: string): Promise<Buffer> {
  const truncated = (found: number): DataError =>
    new DataError(`${path} is truncated: ${found} bytes where ${declared} were declared`)
  if (!isGzip(bytes)) {
    if (bytes.length < declared) throw truncated(bytes.length)
    return bytes.subarray(from, from + length)
  }
  return guarded(async () => {
    const range = Buffer.alloc(length)
    const stream = createGunzip()
    stream.end(bytes)
    let position = 0
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      if (position < from + length && position + chunk.length > from) {
        chunk.copy(range, Math.max(0, position - from), Math.max(0, from - position))
      }
      position += chunk.length
      if (position > declared + 2 ** 20) {
        throw new DataError(`${path} inflates to more than the ${declared} bytes that its header declares`, {
          hint: 'The file is damaged, or made to exhaust memory.',
        })
      }
    }
    if (position < declared) throw truncated(position)
    return range
  }, notAnImage(path))
}

function cutAxis({ axis, slice }: NiftiOptions, shape: readonly number[]): Axis {
  if (axis) return 'ijk'.indexOf(axis) as Axis
  const single = shape.flatMap((length, index) => (length === 1 ? [index] : []))
  return slice === undefined && single.length === 1 ? (single[0] as Axis) : 2
}

function chosen(wanted: number | undefined, count: number, what: string, field: string, path: string): number {
  if (wanted === undefined && count === 1) return 0
  if (wanted !== undefined && wanted < count) return wanted
  const problem = wanted === undefined ? 'one must be chosen' : `there is no ${wanted}`
  throw new DataError(`${path} has ${count} ${field}s (${what}): ${problem}`, {
    hint: `Say {"file": ..., "${field}": N} with N from 0 to ${count - 1}.`,
  })
}

interface PictureAxis {
  axis: Axis
  flipped: boolean
}

function pictureAxes(
  header: Header,
  cut: Axis,
  orientation: NiftiOrientation | undefined,
  path: string,
): { x: PictureAxis; y: PictureAxis } {
  const [first, second] = ([0, 1, 2] as const).filter((axis) => axis !== cut)
  const plain = (axis: Axis): PictureAxis => ({ axis, flipped: false })
  if (orientation === 'voxel') return { x: plain(first), y: plain(second) }
  if (orientation === 'numpy') return { x: plain(second), y: plain(first) }
  const directions = worldDirections(affineOf(header, orientation === 'affine', path))
  // Of right, anterior and superior the one earlier in the list runs along x; both axes then point to L, P or I.
  const [x, y] = directions[first].world < directions[second].world ? [first, second] : [second, first]
  return { x: { axis: x, flipped: directions[x].positive }, y: { axis: y, flipped: directions[y].positive } }
}

/**
 * The affine to right, anterior, superior: the sform before the qform, as nibabel has it. Tools that know nothing write the
 * identity; a template's axes may be the identity too, but its origin is not 0.
 * @param asked whether somebody says that the affine is right.
 */
function affineOf({ fields, sform }: Header, asked: boolean, path: string): number[][] {
  const qform = (): number[][] => fields.getQformMat().slice(0, 3)
  const rows = fields.sform_code > 0 ? sform : fields.qform_code > 0 ? qform() : undefined
  const isIdentity = rows?.every((row, r) => row.every((value, c) => value === (r === c ? 1 : 0)))
  if (rows?.flat().every(Number.isFinite) && (asked || !isIdentity)) return rows
  const fault = isIdentity ? 'the identity at the origin, which says nothing of orientation' : 'absent or damaged'
  throw new DataError(`${path}: its affine is ${fault}`, {
    hint:
      'Look at the file and say {"file": ..., "orientation": "voxel"} (x = i, y = j), "numpy" (x = j, y = i)' +
      `${isIdentity ? ', "affine" (the identity is right: i to the right, j to anterior)' : ''}, or ` +
      '--nifti-orientation for all of them.',
  })
}

/** For each voxel axis the world axis it runs along (0 right, 1 anterior, 2 superior), each taken once. */
function worldDirections(affine: number[][]): { world: number; positive: boolean }[] {
  const cosines = [0, 1, 2].flatMap((voxel) => {
    const length = Math.hypot(...affine.map((row) => row[voxel])) || 1
    return affine.map((row, world) => ({ voxel, world, value: row[voxel] / length }))
  })
  const found: { world: number; positive: boolean }[] = []
  for (const { voxel, world, value } of cosines.sort((a, b) => Math.abs(b.value) - Math.abs(a.value))) {
    if (found[voxel] || found.some((taken) => taken?.world === world)) continue
    found[voxel] = { world, positive: value > 0 }
  }
  return found
}
