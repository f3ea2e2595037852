/** A manifest of masks: JSON Lines of {image, concept?, mask, pair?, absent?}. */
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { placeOf, readJsonl } from '../data/jsonl.js'
import type { ImageRef, Pair } from '../data/records.js'
import { asFileError } from '../errors.js'

const manifestLine = z.strictObject({
  /** Path as the pairs write it, or the SHA-256 of the image. */
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
  readonly #entries: Map<string, ManifestEntry[]>
  readonly #asked = new Set<string>()

  private constructor(root: string, entries: Map<string, ManifestEntry[]>) {
    this.root = root
    this.#entries = entries
  }

  /** @throws {DataError} naming file and line of what is no entry. */
  static async read(path: string): Promise<Manifest> {
    const entries = new Map<string, ManifestEntry[]>()
    for await (const { record, line } of readJsonl(path, manifestLine)) {
      const { image, ...rest } = record
      const key = normalPath(image)
      entries.set(key, [...(entries.get(key) ?? []), { ...rest, place: placeOf(path, line, record.pair) }])
    }
    return new Manifest(dirname(resolve(path)), entries)
  }

  /** Entries for an image that are not reserved for another pair. */
  entriesFor({ path, sha256 }: ImageRef, pair: Pair): ManifestEntry[] {
    const keys = [normalPath(path), sha256]
    for (const key of keys) this.#asked.add(key)
    const found = keys.flatMap((key) => this.#entries.get(key) ?? [])
    return found.filter((entry) => entry.pair === undefined || entry.pair === pair.id)
  }

  /** Entries for images that nothing asked for: misspelt, most likely. */
  strangers(): ManifestEntry[] {
    return [...this.#entries].flatMap(([key, entries]) => (this.#asked.has(key) ? [] : entries))
  }
}

const normalPath = (path: string): string => path.replaceAll('\\', '/').replace(/^(\.\/)+/, '')

/** The files that a manifest names, as they are there; none for a folder of masks, which is an input as a whole. */
export async function maskFiles(path: string): Promise<string[]> {
  if ((await stat(path).catch(asFileError('Reading', path))).isDirectory()) return []
  const root = dirname(resolve(path))
  const named = new Set<string>()
  for await (const { record } of readJsonl(path, manifestLine)) {
    const file = typeof record.mask === 'string' ? record.mask : (record.mask as { file?: unknown }).file
    if (typeof file === 'string') named.add(resolve(root, file))
  }
  return [...named].filter((file) => existsSync(file)).sort()
}
