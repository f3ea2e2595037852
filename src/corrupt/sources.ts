/** Where the mask of a pair's image comes from: the record, a manifest or folder, SLAKE's own files, a service. */
import { join, resolve } from 'node:path'
import { checkPixels } from '../data/image-errors.js'
import { isDicom } from '../data/image-kinds.js'
import { decodeReferenced, encodePng, readSource } from '../data/images.js'
import type { ImageRef, Pair } from '../data/records.js'
import { atPlace, DataError } from '../errors.js'
import { type ConceptOrigin, matchLabels, recordConcepts } from './concept.js'
import { MaskFolder } from './folder.js'
import { isMaskFolder, Manifest } from './manifest.js'
import { area, fitMask, type Mask, union } from './masks/mask.js'
import type { NiftiOrientation } from './masks/nifti.js'
import { type MaskForm, type ReadMask, type ReadOptions, readMask, type Target } from './masks/read.js'
import { ImageNames } from './names.js'
import type { Segmenter } from './segmenter.js'
import { findSlake, readClassNames, readDetections } from './slake.js'

/** Why an image has no usable mask. */
export type Missing = 'noMask' | 'noConcept' | 'noDetection' | 'emptyMask' | 'tooLarge' | 'noRoom'

export interface FoundMask {
  mask: Mask
  /** For instance `manifest: rle`. */
  source: string
  /** How the concept was known; `image` where the mask serves every question. */
  conceptBy: ConceptOrigin | 'image'
  /** What is masked is the place where the concept would be: it is not in the image. */
  absent: boolean
}

export interface SourceOptions {
  /** A manifest, or a folder of masks (SLAKE's layout or named after the images). */
  masks?: string
  /** Folder that masks of records and manifests must lie in; default: that of the file which names them. */
  maskRoot?: string
  resizeMasks: boolean
  niftiOrientation?: NiftiOrientation
  segmenter?: Segmenter
}

/** A mask that could be read, with the concept it shows. */
interface Candidate {
  concept?: string
  absent?: boolean
  read(target: Target): Promise<ReadMask>
}

export class MaskSources {
  readonly #options: SourceOptions
  readonly #imageRoot: string
  readonly #manifest: Manifest | undefined
  readonly #folder: MaskFolder | undefined
  readonly #classNames = new Map<string, Promise<Map<string, number[]>>>()

  private constructor(options: SourceOptions, imageRoot: string, manifest?: Manifest, folder?: MaskFolder) {
    this.#options = options
    this.#imageRoot = imageRoot
    this.#manifest = manifest
    this.#folder = folder
  }

  /** @param imageRoot folder that the paths of records are relative to. @param images all that will be asked for. */
  static async open(options: SourceOptions, imageRoot: string, images: readonly ImageRef[]): Promise<MaskSources> {
    if (options.masks === undefined) return new MaskSources(options, imageRoot)
    const { masks } = options
    const names = new ImageNames(images)
    if (!(await isMaskFolder(masks))) return new MaskSources(options, imageRoot, await Manifest.read(masks, names))
    return new MaskSources(options, imageRoot, undefined, await MaskFolder.read(masks, names))
  }

  /**
   * The mask of one image of a pair, of the image's size and not empty, from the first source that has one.
   * @param place starts every message.
   * @throws {DataError} for a mask that cannot be read or does not fit.
   */
  async find(pair: Pair, index: number, place: string): Promise<FoundMask | Missing> {
    const image = pair.images[index]
    checkPixels(image.width, image.height, `${place}: ${image.path}`)
    const target = this.#target(image)
    const own = this.#ownMask(pair, index, place)
    if (own !== undefined) {
      const read = await readMask(own, target, this.#reading(this.#imageRoot), place)
      return this.#usable([read], target, { source: 'record', conceptBy: 'record', absent: false }, place)
    }
    let reason: Missing = 'noMask'
    for (const [source, candidates] of await this.#candidates(pair, image, place)) {
      if (candidates.length === 0) continue
      const chosen = choose(pair, candidates)
      if (chosen) {
        const read: ReadMask[] = []
        for (const candidate of chosen.candidates) read.push(await candidate.read(target))
        const absent = chosen.candidates.every((candidate) => candidate.absent)
        return this.#usable(read, target, { source, conceptBy: chosen.by, absent }, place)
      }
      if (recordConcepts(pair).length === 0) reason = 'noConcept'
    }
    return this.#options.segmenter ? await this.#ask(this.#options.segmenter, pair, image, place) : reason
  }

  /** Asks for what `find` asks for, and reads no mask: for `warnings`, where a mask was found elsewhere. */
  async look(pair: Pair, index: number, place: string): Promise<void> {
    if (this.#ownMask(pair, index, place) === undefined) await this.#candidates(pair, pair.images[index], place)
  }

  /**
   * Trouble that shows when all pairs have been asked for, one sentence each.
   * @param missing whether an image had no mask.
   */
  warnings(missing: boolean): string[] {
    // What nothing asked for is misspelt where masks are missing; else it is for other pairs.
    const unused = missing ? [...(this.#manifest?.warnings() ?? []), ...(this.#folder?.unused() ?? [])] : []
    return [...unused, ...(this.#folder?.doubles() ?? [])]
  }

  #target(image: ImageRef): Target {
    return {
      ...image,
      dicom: async () => {
        const source = await readSource(resolve(this.#imageRoot, image.path))
        if (!isDicom(source.bytes)) return undefined
        const { dicomSource } = await import('./masks/dicom-seg.js')
        return dicomSource(source.bytes, source.path, source.frame)
      },
    }
  }

  /** @param base folder of the file that names the mask. */
  #reading(base: string): ReadOptions {
    const { maskRoot, niftiOrientation } = this.#options
    return { root: maskRoot ?? base, base, niftiOrientation }
  }

  /** `provenance.masks`: one mask an image, in their order; null where there is none. */
  #ownMask({ provenance: { masks }, images }: Pair, index: number, place: string): unknown {
    if (masks === undefined || masks === null) return undefined
    if (!Array.isArray(masks) || masks.length !== images.length) {
      throw new DataError(`${place}: provenance.masks must be a list with one mask or null for each image`)
    }
    return masks[index] ?? undefined
  }

  async #candidates(pair: Pair, image: ImageRef, place: string): Promise<[string, Candidate[]][]> {
    const path = resolve(this.#imageRoot, image.path)
    const manifest = this.#manifest
    const entries = manifest?.entriesFor(image, pair) ?? []
    const folder = this.#folder
    const { niftiOrientation } = this.#options
    const copied = folder ? await this.#slake(image.name ?? path, folder.root) : []
    // In SLAKE's layout the files that are named as the images are the images.
    const named = folder && copied.length === 0 ? folder.filesFor(image) : []
    return [
      [
        'manifest',
        entries.map(({ concept, absent, mask, place: at }) => ({
          concept,
          absent,
          read: (target) => readMask(mask, target, this.#reading(manifest?.root ?? ''), at),
        })),
      ],
      ['SLAKE', copied],
      [
        'folder',
        named.map(({ concept, file }) => ({
          concept,
          read: (target) => readMask(file, target, { root: folder?.root ?? '', niftiOrientation }, place),
        })),
      ],
      ['SLAKE', await this.#slake(path)],
    ]
  }

  async #slake(path: string, top?: string): Promise<Candidate[]> {
    const found = findSlake(path, top)
    if (!found) return []
    const { root, mask, detection, names } = found
    const named = mask && names ? await this.#classes(root, names) : new Map<string, number[]>()
    const boxes = detection ? await readDetections(root, detection) : new Map<string, number[][]>()
    return [...new Set([...named.keys(), ...boxes.keys()])].map((concept) => ({
      concept,
      async read(target) {
        const place = join(root, detection ?? mask ?? '')
        const value = named.get(concept)
        const drawn = mask && value && (await readMask({ file: mask, value }, target, { root }, root))
        const own = boxes.get(concept)
        if (drawn && (!own || area(drawn.mask) > 0)) return drawn
        return await readMask({ boxes: own }, target, { root }, `${place}: ${concept}`)
      },
    }))
  }

  #classes(root: string, names: string): Promise<Map<string, number[]>> {
    const path = join(root, names)
    const classes = this.#classNames.get(path) ?? readClassNames(root, names)
    this.#classNames.set(path, classes)
    return classes
  }

  #usable(read: ReadMask[], target: Target, about: Omit<FoundMask, 'mask'>, place: string): FoundMask | Missing {
    const masks = read.map(({ mask }) => fitMask(mask, target, this.#options.resizeMasks, place))
    const forms: MaskForm[] = [...new Set(read.map(({ form }) => form))]
    const mask = union(masks)
    if (area(mask) === 0) return 'emptyMask'
    return { ...about, mask, source: `${about.source}: ${forms.join(' + ')}` }
  }

  async #ask(segmenter: Segmenter, pair: Pair, image: ImageRef, place: string): Promise<FoundMask | Missing> {
    const concepts = recordConcepts(pair)
    if (concepts.length === 0) return 'noConcept'
    const png = async (): Promise<Buffer> =>
      encodePng(await decodeReferenced(image, this.#imageRoot).catch(atPlace(place)))
    const found: Mask[] = []
    for (const concept of concepts) {
      const { mask, detections } = await segmenter.segment({ ...image, png }, concept)
      if (detections > 0) found.push(mask)
    }
    if (found.length === 0) return 'noDetection'
    const mask = union(found)
    return area(mask) === 0 ? 'emptyMask' : { mask, source: 'segmenter: rle', conceptBy: 'record', absent: false }
  }
}

function choose(
  pair: Pair,
  candidates: readonly Candidate[],
): { candidates: Candidate[]; by: FoundMask['conceptBy'] } | undefined {
  const labels = candidates.flatMap(({ concept }) => (concept === undefined ? [] : [concept]))
  const matched = matchLabels(pair, [...new Set(labels)])
  const labelled = candidates.filter(({ concept }) => concept !== undefined && matched.labels.includes(concept))
  if (labelled.length > 0) return { candidates: labelled, by: matched.by }
  const general = candidates.filter(({ concept }) => concept === undefined)
  return general.length > 0 ? { candidates: general, by: 'image' } : undefined
}
