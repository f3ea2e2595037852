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
    const listed = await readdir(root, { recursive: true }).catch(asFileError('Reading the masks', root))
    const add = (name: string, file: string): unknown => files.set(name, [...(files.get(name) ?? []), file])
    for (const file of listed.map((name) => name.replaceAll('\\', '/')).sort()) {
      if (!maskExtension.test(file)) continue
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

  /** Names that cannot be told apart, one sentence each. */
  warnings(): string[] {
    const shared = [...this.#files.keys()].filter((name) => this.#names.isShared(name))
    const found: string[] = []
    if (shared.length > 0) {
      const files = this.#files.get(shared[0])?.[0]
      const of = `${shared.length} names of masks belong to several images, so their masks are not used`
      found.push(`${of}; first: ${files}. Put each in a folder that is named as that of its image.`)
    }
    if (this.#doubles.size > 0) {
      const [first] = this.#doubles
      found.push(`${this.#doubles.size} images have two masks of one name, which are united; first: ${first}`)
    }
    return found
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
