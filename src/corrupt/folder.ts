/** A folder of masks that are named after the images: `NAME.png`, `NAME__concept.png` or `NAME/concept.png`. */
import { readdir } from 'node:fs/promises'
import type { ImageRef } from '../data/records.js'
import { asFileError } from '../errors.js'
import { normalConcept } from './concept.js'
import type { ImageNames } from './names.js'

const maskExtension = /\.(png|webp|nii|nii\.gz|dcm|json)$/i

export interface NamedMask {
  concept: string | undefined
  file: string
}

/** Files that may be masks, by their paths from the folder, sorted. */
export async function listMasks(root: string): Promise<string[]> {
  const names = await readdir(root, { recursive: true }).catch(asFileError('Reading the masks', root))
  return names
    .map((name) => name.replaceAll('\\', '/'))
    .filter((name) => maskExtension.test(name))
    .sort()
}

export class MaskFolder {
  readonly root: string
  readonly #names: ImageNames
  /** By each name that a file may be the mask of. */
  readonly #files: Map<string, string[]>
  readonly #doubles = new Set<string>()

  private constructor(root: string, names: ImageNames, files: Map<string, string[]>) {
    this.root = root
    this.#names = names
    this.#files = files
  }

  static async read(root: string, names: ImageNames): Promise<MaskFolder> {
    const files = new Map<string, string[]>()
    const add = (name: string, file: string): unknown => files.set(name, [...(files.get(name) ?? []), file])
    for (const file of await listMasks(root)) {
      const name = file.replace(maskExtension, '')
      add(name, file)
      if (name.includes('__')) add(name.slice(0, name.lastIndexOf('__')), file)
      if (name.includes('/')) add(name.slice(0, name.lastIndexOf('/')), file)
    }
    return new MaskFolder(root, names, files)
  }

  filesFor(image: ImageRef): NamedMask[] {
    const name = this.#names.of(image).find((each) => this.#files.has(each))
    if (name === undefined) return []
    const masks = (this.#files.get(name) ?? []).map((file) => {
      const rest = file.replace(maskExtension, '').slice(name.length)
      return { file, concept: rest.replace(/^(__|\/)/, '') || undefined }
    })
    this.#noteDoubles(masks)
    return masks
  }

  /** Masks whose name is that of several images. */
  unused(): string[] {
    const shared = [...this.#files].filter(([name]) => this.#names.isShared(name))
    if (shared.length === 0) return []
    const [[name, [first]]] = shared
    const what = `${shared.length} names of masks are those of several images, so these masks are not used`
    return [`${what}; first: ${first} (${name}). Name them by more of the image's path.`]
  }

  /** Masks of which an image has two of one name. */
  doubles(): string[] {
    const [first] = this.#doubles
    if (first === undefined) return []
    return [`${this.#doubles.size} times an image has two masks of one name, which are united; first: ${first}`]
  }

  #noteDoubles(masks: readonly NamedMask[]): void {
    const seen = new Map<string, string>()
    for (const { concept, file } of masks) {
      const label = normalConcept(concept ?? '')
      const earlier = seen.get(label)
      if (earlier !== undefined) this.#doubles.add(`${earlier} and ${file}`)
      seen.set(label, file)
    }
  }
}
