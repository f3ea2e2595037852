/** What the images of the pairs are called, so that masks can be named after them. */
import type { ImageRef } from '../data/records.js'

export class ImageNames {
  readonly #owners = new Map<string, Set<string>>()

  /** @param images all that masks will be looked for. */
  constructor(images: readonly ImageRef[]) {
    for (const image of images) {
      for (const name of namesOf(image)) this.#owners.set(name, (this.#owners.get(name) ?? new Set()).add(image.sha256))
    }
  }

  /**
   * The names of an image that no other image has, the longest first: its path in the record, its hash, what it was called
   * before an import; each also without its first folders and without its extension.
   */
  of(image: ImageRef): string[] {
    return namesOf(image).filter((name) => !this.isShared(name))
  }

  /** Whether several images answer to a name, as IU-Xray calls every first view `0.png`. */
  isShared(name: string): boolean {
    return (this.#owners.get(name)?.size ?? 0) > 1
  }
}

function namesOf({ path, sha256, name }: ImageRef): string[] {
  return [...new Set([...tails(path), sha256, ...(name === undefined ? [] : tails(name))])]
}

/** A path, then without its first folder, and so on down to the file's name; each also without extension. */
export function tails(path: string): string[] {
  const parts = plainPath(path).split('/')
  return parts.flatMap((_, start) => {
    const tail = parts.slice(start).join('/')
    return [...new Set([tail, withoutExtension(tail, '$1'), withoutExtension(tail, '')])]
  })
}

/** One spelling for a relative path. */
export function plainPath(path: string): string {
  const parts = path.replaceAll('\\', '/').split('/')
  return parts.filter((part) => part !== '' && part !== '.' && part !== '..').join('/')
}

/** @param frame what becomes of the frame at the end of `scan.dcm#3`. */
const withoutExtension = (tail: string, frame: string): string => tail.replace(/\.[^./#]+(#\d+)?$/, frame)
