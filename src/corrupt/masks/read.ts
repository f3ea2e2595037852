/** A mask as records and manifests write it, in any form, to pixels. */
import { z } from 'zod'
import { sha256 } from '../../data/files.js'
import { isDicom } from '../../data/image-kinds.js'
import type { Size } from '../../data/records.js'
import { DataError, guarded } from '../../errors.js'
import { type Box, fillBoxes } from './box.js'
import { type DicomSource, readSegMask } from './dicom-seg.js'
import type { Mask } from './mask.js'
import { isNifti, type NiftiOrientation, niftiOrientations, readNiftiMask } from './nifti.js'
import { readInside } from './paths.js'
import { readPictureMask } from './picture.js'
import { fillPolygons } from './polygon.js'
import { decodeRle } from './rle.js'

/** The image that a mask is for. */
export interface Target extends Size {
  sha256: string
  /** What segmentations refer to, when the image is DICOM itself. */
  dicom(): Promise<DicomSource | undefined>
}

export interface ReadOptions {
  /** Folder that files are taken from, and from nowhere else. */
  root: string
  /** What their names are relative to; default: `root`. */
  base?: string
  /** For NIfTI files that do not say. */
  niftiOrientation?: NiftiOrientation
}

export type MaskForm = 'rle' | 'polygons' | 'boxes' | 'picture' | 'nifti' | 'dicom-seg'

export interface ReadMask {
  mask: Mask
  form: MaskForm
}

const index = z.number().int().nonnegative()
const number = z.number().min(-1e9).max(1e9)
const polygons = z.array(z.array(number)).min(1)
const rleSpec = z.strictObject({
  size: z.tuple([index.positive(), index.positive()]),
  counts: z.union([z.array(index), z.string()]),
})
const polygonSpec = z.strictObject({ polygons })
const boxSpec = z.strictObject({
  boxes: z.array(z.tuple([number, number, number, number])).min(1),
  format: z.enum(['xywh', 'xyxy']).default('xywh'),
})
const ids = z.union([z.number(), z.array(z.number()).min(1)]).transform((value) => [value].flat())

/** A file and what to take of it; which fields apply depends on its content. */
const fileSpecs = {
  picture: z.strictObject({
    file: z.string().min(1),
    value: ids.optional(),
    threshold: z.number().positive().optional(),
    offset: z.tuple([index, index]).optional(),
  }),
  nifti: z.strictObject({
    file: z.string().min(1),
    value: ids.optional(),
    axis: z.enum(['i', 'j', 'k']).optional(),
    slice: index.optional(),
    volume: index.optional(),
    orientation: z.enum(niftiOrientations).optional(),
  }),
  'dicom-seg': z.strictObject({
    file: z.string().min(1),
    segment: z.union([index, z.string().min(1)]).optional(),
    frame: index.positive().optional(),
  }),
}

/**
 * Reads one mask: a file name or `{file, ...}` (PNG, NIfTI, DICOM SEG or JSON, told by content), COCO RLE `{size, counts}`,
 * `{polygons}` or the bare list of them, `{boxes, format?}`, or a COCO annotation with `segmentation`.
 * @param place starts every message: file, line, record.
 * @throws {DataError} for anything that is none of these, with the reason.
 */
export async function readMask(spec: unknown, target: Target, options: ReadOptions, place: string): Promise<ReadMask> {
  if (typeof spec === 'string') return await readFileMask({ file: spec }, target, options, place)
  if (Array.isArray(spec)) return drawn({ polygons: spec }, target, place)
  if (typeof spec !== 'object' || spec === null) throw unknownForm(place)
  return 'file' in spec ? await readFileMask(spec, target, options, place) : drawn(spec, target, place)
}

/** The forms that need no file. */
function drawn(spec: object, target: Target, place: string): ReadMask {
  if ('segmentation' in spec) {
    const { segmentation } = spec
    if (typeof segmentation !== 'object' || segmentation === null) throw unknownForm(place)
    return drawn(Array.isArray(segmentation) ? { polygons: segmentation } : segmentation, target, place)
  }
  if ('counts' in spec) return { mask: decodeRle(checked(rleSpec, spec, place), place), form: 'rle' }
  if ('boxes' in spec) {
    const { boxes, format } = checked(boxSpec, spec, place)
    return { mask: fillBoxes(boxes as Box[], format, target, place), form: 'boxes' }
  }
  if ('polygons' in spec) {
    return { mask: fillPolygons(checked(polygonSpec, spec, place).polygons, target, place), form: 'polygons' }
  }
  throw unknownForm(place)
}

async function readFileMask(spec: object, target: Target, options: ReadOptions, place: string): Promise<ReadMask> {
  const { file } = checked(z.looseObject({ file: z.string().min(1) }), spec, place)
  const bytes = await readInside(options.root, file, place, options.base)
  const path = `${place}: ${file}`
  if (sha256(bytes) === target.sha256) {
    throw new DataError(`${path} is the image itself, not its mask`)
  }
  if (isDicom(bytes)) {
    const segOptions = checked(fileSpecs['dicom-seg'], spec, path)
    return { mask: readSegMask(bytes, path, segOptions, await target.dicom()), form: 'dicom-seg' }
  }
  if (isNifti(bytes)) {
    const choice = checked(fileSpecs.nifti, spec, path)
    const orientation = choice.orientation ?? options.niftiOrientation
    return { mask: await readNiftiMask(bytes, path, { ...choice, orientation }), form: 'nifti' }
  }
  if (/^\s*[[{]/.test(bytes.toString('utf8', 0, 64))) {
    checked(z.strictObject({ file: z.string() }), spec, path)
    return fromJson(bytes, target, path)
  }
  const mask = await readPictureMask(bytes, path, checked(fileSpecs.picture, spec, path), target)
  return { mask, form: 'picture' }
}

function fromJson(bytes: Buffer, target: Target, path: string): ReadMask {
  const spec: unknown = guarded(
    () => JSON.parse(bytes.toString('utf8')),
    (reason, cause) => new DataError(`${path} is not JSON: ${reason}`, { cause }),
  )
  return drawn(Array.isArray(spec) ? { polygons: spec } : (spec as object), target, path)
}

function checked<S extends z.ZodType>(schema: S, spec: unknown, place: string): z.output<S> {
  const parsed = schema.safeParse(spec)
  if (parsed.success) return parsed.data
  const reasons = parsed.error.issues.map(({ path, message }) => [path.join('.'), message].filter(Boolean).join(': '))
  throw new DataError(`${place}: the mask is not well formed: ${reasons.join('; ')}`, {
    detail: { issues: parsed.error.issues },
  })
}

function unknownForm(place: string): DataError {
  return new DataError(`${place}: this is no mask`, {
    hint: 'A mask is a file name, {file, ...}, {size, counts}, {polygons}, {boxes} or {segmentation} (docs/corruption.md).',
  })
}
