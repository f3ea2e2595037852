/** A manifest of masks: JSON Lines of {image, concept?, mask, pair?, absent?}. */
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { isWithin, sha256, sha256File } from '../data/files.js'
import { placeOf, readJsonl } from '../data/jsonl.js'
import type { ImageRef, Pair } from '../data/records.js'
import { asFileError, DataError } from '../errors.js'
import { listMasks } from './folder.js'
import { type ImageNames, plainPath, tails } from './names.js'

const manifestLine = z.strictObject({
  /** Path as the pairs write it, what the file was called before an import, or the SHA-256 of the image. */
  image: z.string().min(1),
  /** Without it the mask serves every question about the image. */
  concept: z.string().min(1).optional(),
  mask: z.unknown().refine((mask) => mask !== undefined && mask !== null, 'it is missing'),
  /** Id of the only pair it is for. */
  pair: z.string().min(1).optional(),
  /** The concept is not in the image; the mask is where it would be. */
  absent: z.boolean().optional(),
})

/** One line of a manifest of masks: an image, the mask, and which questions it serves (docs/corruption.md). */
export type ManifestLine = z.output<typeof manifestLine>

export interface ManifestEntry extends Omit<ManifestLine, 'image'> {
  /** `file:line` */
  place: string
}

export class Manifest {
  /** Folder of the file, which the masks lie in. */
  readonly root: string
  readonly #names: ImageNames
  readonly #entries: Map<string, ManifestEntry[]>
  /** What images the manifest may mean by the end of a path. */
  readonly #byTail = new Map<string, Set<string>>()
  readonly #asked = new Set<string>()
  readonly #unclear = new Set<string>()

  private constructor(root: string, names: ImageNames, entries: Map<string, ManifestEntry[]>) {
    this.root = root
    this.#names = names
    this.#entries = entries
    for (const key of entries.keys()) {
      for (const tail of tails(key)) this.#byTail.set(tail, (this.#byTail.get(tail) ?? new Set()).add(key))
    }
  }

  /** @param names of all images that will be asked for. @throws {DataError} naming file and line of what is no entry. */
  static async read(path: string, names: ImageNames): Promise<Manifest> {
    const entries = new Map<string, ManifestEntry[]>()
    for await (const { record, line } of readJsonl(path, manifestLine)) {
      const { image, ...rest } = record
      const key = normalPath(image)
      entries.set(key, [...(entries.get(key) ?? []), { ...rest, place: placeOf(path, line, record.pair) }])
    }
    return new Manifest(dirname(resolve(path)), names, entries)
  }

  /** Entries for an image that are not reserved for another pair. */
  entriesFor(image: ImageRef, pair: Pair): ManifestEntry[] {
    const keys = this.#keysOf(image)
    for (const key of keys) this.#asked.add(key)
    const found = keys.flatMap((key) => this.#entries.get(key) ?? [])
    return found.filter((entry) => entry.pair === undefined || entry.pair === pair.id)
  }

  /** Names that nothing asked for, misspelt most likely, and names that could be those of several images. */
  warnings(): string[] {
    const strangers = [...this.#entries].flatMap(([key, entries]) => (this.#asked.has(key) ? [] : entries))
    const found: string[] = []
    if (strangers.length > 0) {
      found.push(`${strangers.length} masks of the manifest are for images of no pair; first: ${strangers[0].place}`)
    }
    if (this.#unclear.size > 0) {
      const [first] = this.#unclear
      found.push(`${this.#unclear.size} names could mean several images, so their masks are not used; first: ${first}`)
    }
    return found
  }

  /** Its path and hash, which are exact, else a name that means this image alone, or that it alone ends with. */
  #keysOf(image: ImageRef): string[] {
    const exact = [normalPath(image.path), image.sha256].filter((key) => this.#entries.has(key))
    if (exact.length > 0) return exact
    const name = this.#names.of(image).find((each) => this.#entries.has(each))
    if (name !== undefined) return [name]
    for (const whole of [image.path, image.name ?? image.path].map(plainPath)) {
      const longer = this.#byTail.get(whole)
      if (longer?.size === 1 && !this.#names.isShared(whole)) return [...longer]
      if (longer) this.#unclear.add(`${[...longer].join(', ')} (for ${whole})`)
    }
    const shared = tails(image.name ?? image.path).find((each) => this.#entries.has(each))
    if (shared !== undefined) this.#unclear.add(shared)
    return []
  }
}

const normalPath = (path: string): string => path.replaceAll('\\', '/').replace(/^(\.\/)+/, '')

/** @throws {DataError} for what is neither a file nor a folder; a pipe would block. */
export async function isMaskFolder(path: string): Promise<boolean> {
  const status = await stat(path).catch(asFileError('Reading the masks', path))
  if (status.isFile() || status.isDirectory()) return status.isDirectory()
  throw new DataError(`${path} is a pipe or device; masks are a manifest or a folder`, { detail: { path } })
}

/** The files that a manifest names, as they are there; none for a folder of masks, which is an input as a whole. */
export async function maskFiles(path: string): Promise<string[]> {
  if (await isMaskFolder(path)) return []
  const root = dirname(resolve(path))
  const named = new Set<string>()
  for await (const { record } of readJsonl(path, manifestLine)) {
    const file = typeof record.mask === 'string' ? record.mask : (record.mask as { file?: unknown }).file
    if (typeof file === 'string') named.add(resolve(root, file))
  }
  return [...named].filter((file) => existsSync(file)).sort()
}

/** SHA-256 of a manifest, or of the names in a folder of masks: what is found in them, while a file may be mended. @param out is left out. */
export async function hashMasks(path: string, out: string): Promise<string> {
  if (!(await isMaskFolder(path))) return sha256File(path)
  const names = (await listMasks(path)).filter((name) => !isWithin(join(path, name), out))
  return sha256(names.join('\n'))
}
