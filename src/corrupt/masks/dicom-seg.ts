/** DICOM segmentations (PS3.3 C.8.20): frames of a segment that belong to one image. */
import type { DataSet } from 'dicom-parser'
import { parseDicom, readingDicom } from '../../data/dicom.js'
import { checkPixels, unsupportedImage } from '../../data/image-errors.js'
import { DataError } from '../../errors.js'
import { emptyMask, type Mask } from './mask.js'

/** What of a DICOM image its segmentation refers to. */
export interface DicomSource {
  instance: string
  /** From 1, when the record names one. */
  frame?: number
  /** Direction cosines of rows and columns. */
  orientation?: readonly number[]
}

export interface SegOptions {
  /** Number or label (upper and lower case alike); needed where there is more than one segment. */
  segment?: number | string
  /** Frame of the segmentation, from 1, instead of the one that refers to the image. */
  frame?: number
}

const tags = {
  transferSyntax: 'x00020010',
  sopClass: 'x00080016',
  instance: 'x00080018',
  sourceImages: 'x00082112',
  derivation: 'x00089124',
  referencedInstance: 'x00081155',
  referencedFrame: 'x00081160',
  orientation: 'x00200037',
  planeOrientation: 'x00209116',
  frames: 'x00280008',
  rows: 'x00280010',
  columns: 'x00280011',
  bitsAllocated: 'x00280100',
  segmentationType: 'x00620001',
  segments: 'x00620002',
  segmentNumber: 'x00620004',
  segmentLabel: 'x00620005',
  identification: 'x0062000a',
  referencedSegment: 'x0062000b',
  maximumFraction: 'x0062000e',
  sharedGroups: 'x52009229',
  frameGroups: 'x52009230',
  pixelData: 'x7fe00010',
}

/** Frames above this are refused: each costs memory for what it says of itself, and pixels of one bit cost nothing. */
const mostFrames = 2 ** 16

/** Little endian and not compressed, or deflated as a whole, which the parser undoes. */
const readable = ['1.2.840.10008.1.2', '1.2.840.10008.1.2.1', '1.2.840.10008.1.2.1.99']
const segmentationStorage = /^1\.2\.840\.10008\.5\.1\.4\.1\.1\.66\.[47]$/

/** Instance, frame and orientation of a DICOM image, for its segmentations to be held against. */
export function dicomSource(bytes: Buffer, path: string, frame?: number): DicomSource {
  return readingDicom(path, () => {
    const dataSet = parseDicom(bytes)
    return { instance: dataSet.string(tags.instance) ?? '', frame, orientation: numbers(dataSet, tags.orientation) }
  })
}

/**
 * The union of the frames that show a segment on an image. BINARY frames are bits, the lowest first, and follow each other
 * without padding; FRACTIONAL ones are inside from one half on; LABELMAP ones hold segment numbers.
 * @param source the image when it is DICOM itself: frames that refer to it are taken, and none is an empty mask.
 * @throws {DataError} naming what has to be chosen, or that planes do not agree.
 */
export function readSegMask(bytes: Buffer, path: string, options: SegOptions, source?: DicomSource): Mask {
  return readingDicom(path, () => readMask(parseDicom(bytes), path, options, source))
}

function readMask(dataSet: DataSet, path: string, options: SegOptions, source: DicomSource | undefined): Mask {
  if (!segmentationStorage.test(dataSet.string(tags.sopClass) ?? '')) {
    throw unsupportedImage(path, 'a DICOM file that is no segmentation', 'Give a DICOM SEG, or another form of mask.')
  }
  const syntax = dataSet.string(tags.transferSyntax) ?? ''
  if (!readable.includes(syntax)) {
    throw unsupportedImage(
      path,
      `a segmentation in transfer syntax ${syntax}`,
      'Decompress it: dcmdrle or dcmconv +te.',
    )
  }
  const type = dataSet.string(tags.segmentationType) ?? ''
  const segment = chooseSegment(dataSet, options, path)
  const count = Math.max(dataSet.intString(tags.frames) || 1, 1)
  if (count > mostFrames) throw unsupportedImage(path, `${count} frames; at most ${mostFrames} are read`)
  // First, for it holds the number of frames against the bytes there are.
  const pixels = pixelReader(dataSet, type, segment, count, path)
  const all = framesOf(dataSet, count)
  const candidates = type === 'LABELMAP' ? all : all.filter(({ segments }) => segments.includes(segment))
  const frames = chooseFrames(candidates, all.length, options, source, path)
  for (const { orientation } of frames) checkOrientation(orientation, source, path)

  const mask = emptyMask(pixels)
  for (const { index } of frames) {
    for (let at = 0; at < mask.inside.length; at += 1) {
      if (pixels.isInside(index * mask.inside.length + at)) mask.inside[at] = 1
    }
  }
  return mask
}

interface Frame {
  /** From 0. */
  index: number
  segments: number[]
  sources: { instance: string; frames: number[] }[]
  orientation: number[] | undefined
}

function chooseSegment(dataSet: DataSet, { segment }: SegOptions, path: string): number {
  const known = items(dataSet, tags.segments).map((item) => ({
    number: item.uint16(tags.segmentNumber) ?? 0,
    label: item.string(tags.segmentLabel) ?? '',
  }))
  if (segment === undefined && known.length === 1) return known[0].number
  const found = known.find(({ number, label }) =>
    typeof segment === 'string' ? label.toLowerCase() === segment.toLowerCase() : number === segment,
  )
  if (found) return found.number
  const list = known.map(({ number, label }) => `${number} (${label})`).join(', ')
  throw new DataError(`${path} has the segments ${list}: ${segment === undefined ? 'choose one' : `no ${segment}`}`, {
    hint: 'Say {"file": ..., "segment": N} or the label.',
  })
}

function framesOf(dataSet: DataSet, count: number): Frame[] {
  const [shared] = items(dataSet, tags.sharedGroups)
  const groups = items(dataSet, tags.frameGroups)
  return Array.from({ length: count }, (_, index) => {
    const inGroup = (tag: string): DataSet[] => {
      const own = groups[index] ? items(groups[index], tag) : []
      return own.length > 0 || !shared ? own : items(shared, tag)
    }
    return {
      index,
      segments: inGroup(tags.identification).map((item) => item.uint16(tags.referencedSegment) ?? 0),
      sources: inGroup(tags.derivation)
        .flatMap((item) => items(item, tags.sourceImages))
        .map((item) => ({
          instance: item.string(tags.referencedInstance) ?? '',
          frames: numbers(item, tags.referencedFrame) ?? [],
        })),
      orientation: inGroup(tags.planeOrientation).map((item) => numbers(item, tags.orientation))[0],
    }
  })
}

function chooseFrames(
  candidates: Frame[],
  count: number,
  { frame }: SegOptions,
  source: DicomSource | undefined,
  path: string,
): Frame[] {
  if (frame !== undefined) {
    const found = candidates.filter(({ index }) => index === frame - 1)
    if (found.length > 0) return found
    throw new DataError(`${path} has ${count} frames, and frame ${frame} is none of the segment`)
  }
  const referring = candidates.filter(({ sources }) => sources.length > 0)
  if (source && referring.length > 0) {
    return referring.filter(({ sources }) =>
      sources.some(
        ({ instance, frames }) =>
          instance === source.instance &&
          (source.frame === undefined || frames.length === 0 || frames.includes(source.frame)),
      ),
    )
  }
  if (candidates.length <= 1) return candidates
  throw new DataError(`${path} has ${candidates.length} frames of the segment, and none says which image it is of`, {
    hint: 'Say {"file": ..., "frame": N}, counted from 1.',
  })
}

/** A mask on another plane may have the size of the image and lie mirrored. */
function checkOrientation(orientation: number[] | undefined, source: DicomSource | undefined, path: string): void {
  const of = source?.orientation
  if (!orientation || !of || orientation.length !== of.length) return
  if (orientation.every((cosine, index) => Math.abs(cosine - of[index]) < 1e-3)) return
  throw new DataError(`${path} lies in the plane [${orientation.join(', ')}], the image in [${of.join(', ')}]`, {
    hint: 'Resample the segmentation onto the image.',
  })
}

function pixelReader(dataSet: DataSet, type: string, segment: number, frames: number, path: string) {
  const [width, height] = [dataSet.uint16(tags.columns) ?? 0, dataSet.uint16(tags.rows) ?? 0]
  checkPixels(width, height, path)
  const bits = dataSet.uint16(tags.bitsAllocated) ?? 0
  const wanted: Record<string, number[]> = { BINARY: [1], FRACTIONAL: [8], LABELMAP: [8, 16] }
  if (!wanted[type]?.includes(bits)) throw unsupportedImage(path, `segmentation type "${type}" of ${bits} bits`)
  const element = dataSet.elements[tags.pixelData]
  const needed = Math.ceil((width * height * frames * bits) / 8)
  const available = element ? Math.min(element.length, dataSet.byteArray.length - element.dataOffset) : 0
  if (available < needed) {
    throw new DataError(`${path} is truncated: ${available} bytes of pixel data where ${needed} were declared`)
  }
  const data = dataSet.byteArray.subarray(element.dataOffset, element.dataOffset + needed)
  const half = (dataSet.uint16(tags.maximumFraction) ?? 255) / 2
  const isInside: (at: number) => boolean =
    type === 'BINARY'
      ? (at) => ((data[at >> 3] >> (at & 7)) & 1) === 1
      : type === 'FRACTIONAL'
        ? (at) => data[at] >= half
        : (at) => (bits === 8 ? data[at] : data[2 * at] + 256 * data[2 * at + 1]) === segment
  return { width, height, isInside }
}

function items(dataSet: DataSet, tag: string): DataSet[] {
  return (dataSet.elements[tag]?.items ?? []).flatMap((item) => (item.dataSet ? [item.dataSet] : []))
}

/** A text value of several numbers; absent when there is none. */
function numbers(dataSet: DataSet, tag: string): number[] | undefined {
  return dataSet.string(tag)?.split('\\').map(Number)
}
