/** The twin of one image, on disk under the hash of what it is made from, so that no run makes it twice. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sha256, sha256File, writeFileAtomic } from '../data/files.js'
import { checkReferenced, decodeReferenced, encodePng } from '../data/images.js'
import type { ImageRef, Pair } from '../data/records.js'
import { atPlace, UnsupportedError } from '../errors.js'
import { leaveOut } from './left-out.js'
import { type Mask, maskHash } from './masks/mask.js'
import { type CorruptionMethod, corruptImage } from './methods.js'
import { notePath, twinPath } from './output.js'
import { recordSeed, type SeedBy } from './seed.js'
import type { FoundMask, Missing } from './sources.js'
import type { ModelView } from './view.js'

/** Whose pixels the noise is independent in: those of the image, as published, or those that the model sees. */
export const grains = ['image', 'model'] as const
/** One of `grains`. */
export type Grain = (typeof grains)[number]

/** What happens to one image of a pair, as JSON. */
export interface PartAbout {
  method: CorruptionMethod
  /** Grey levels, in the pixels of `grain`; 0 for a method without noise. */
  sigma: number
  maskPath: string | null
  /** Share of the image that the mask covers. */
  coverage: number | null
  found: Omit<FoundMask, 'mask'> | null
  missing: Missing | null
}

/** With its pixels. */
export interface Part extends PartAbout {
  image: ImageRef
  mask: Mask | null
}

export interface Twin {
  image: ImageRef
  /** Whether no pixel differs. */
  unchanged: boolean
  grain: Grain
  /** Standard deviation of the change inside the mask as the model sees it, measured; `null` where that is not known. */
  seenSigma: number | null
}

/** A twin with the hash of how the model's processor shows images of its size. */
interface Noted extends Twin {
  seenBy: string | null
}

export interface TwinOptions {
  /** Folder that twins and their notes are written to. */
  out: string
  imageRoot: string
  seed: number
  seedBy: SeedBy
  grain: Grain
  /** Of the model that the pairs are for, where it is known. */
  view: ModelView | undefined
}

export class Twins {
  /** Twins that an earlier run had made. */
  reused = 0
  readonly #options: TwinOptions
  readonly #asked = new Set<string>()

  constructor(options: TwinOptions) {
    this.#options = options
  }

  async make(pair: Pair, part: Part, index: number, place: string): Promise<Twin> {
    const { out, imageRoot, seedBy, grain: asked, view } = this.#options
    const { image: clean, method, sigma, mask } = part
    const seed = this.seedOf(pair, index, mask)
    // An image that the model refuses has no view, and no grain but its own.
    const shown = sigma > 0 ? await view?.of(clean).catch(ifUnsupported) : undefined
    const grain = shown ? asked : 'image'
    const made = { version: 1, image: clean.sha256, mask: mask && maskHash(mask), method, sigma, seed }
    const seenBy = shown ? sha256(JSON.stringify({ ...shown, black: undefined })) : null
    const key = sha256(JSON.stringify(grain === 'model' ? { ...made, seenBy } : made))
    const note = join(out, notePath(key))
    const isFirst = !this.#asked.has(key)
    this.#asked.add(key)
    const located = atPlace(place, { id: pair.id, image: clean.path })
    const known = await this.#known(note)
    if (known && (seenBy === null || known.seenBy === seenBy)) {
      await checkReferenced(clean, imageRoot).catch(located).catch(leaveOut)
      if (isFirst) this.reused += 1
      return seenBy === null ? { ...known, seenSigma: null } : known
    }
    const pixels = await decodeReferenced(clean, imageRoot).catch(located).catch(leaveOut)
    const noise = grain === 'model' ? await view?.noise(clean, seed) : undefined
    const corrupted = await corruptImage(pixels, method, mask, sigma, seed, noise)
    const { width, height, rgb } = corrupted
    const png = await encodePng({ width, height, rgb }, { compressionLevel: 9 })
    // Named after what it is of, so that no other file decides the name of a twin that several share.
    const name = seedBy === 'image' ? clean.sha256.slice(0, 16) : `${slug(pair.id)}-${index}`
    const path = twinPath(name, key)
    await writeFileAtomic(join(out, path), png)
    const image = { path, sha256: sha256(png), width, height }
    const seenSigma = (shown && (await view?.sigma(pixels, corrupted, mask))) ?? null
    const twin: Noted = { image, unchanged: Buffer.compare(rgb, pixels.rgb) === 0, grain, seenSigma, seenBy }
    await writeFileAtomic(note, JSON.stringify(twin))
    return twin
  }

  /** The seed of the twin of a pair's image `index`; the image counts by its content. */
  seedOf(pair: Pair, index: number, mask: Mask | null): number {
    const { seed, seedBy } = this.#options
    if (seedBy === 'image') return recordSeed(`${pair.images[index].sha256}\n${mask ? maskHash(mask) : ''}`, seed)
    // The first image has the seed of its pair; further ones have seeds of their own, or two views would share their noise.
    return recordSeed(index === 0 ? pair.id : `${pair.id}\n${index}`, seed)
  }

  /** A twin of an earlier run, when its file is still what was written. */
  async #known(note: string): Promise<Noted | undefined> {
    try {
      const twin = JSON.parse(await readFile(note, 'utf8')) as Noted
      const written = await sha256File(join(this.#options.out, twin.image.path))
      return written === twin.image.sha256 ? { ...twin, grain: twin.grain ?? 'image' } : undefined
    } catch {
      // Not there, or damaged: it is made again.
      return undefined
    }
  }
}

/** Ids hold what file names must not: `#`, slashes, dots in front. The key after it keeps names apart. */
const slug = (id: string): string => id.replace(/[^A-Za-z0-9_-]+/g, '-').slice(0, 60)

function ifUnsupported(error: unknown): undefined {
  if (!(error instanceof UnsupportedError)) throw error
}
