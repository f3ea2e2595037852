/** Content hashes of the inputs from outside a study: each is read once a process, large files once in all. */
import { join } from 'node:path'
import { readTextIfThere, writeJson } from '../data/files.js'
import { Hashes, type KnownHashes, knownHashes } from '../pipeline/index.js'

export class ContentHashes {
  readonly #file: string
  readonly #hashes: Hashes
  readonly #found = new Map<string, Promise<string>>()
  readonly #any = new Map<string, Promise<string | null>>()

  private constructor(file: string, hashes: Hashes) {
    this.#file = file
    this.#hashes = hashes
  }

  /** @param root folder of the study. */
  static async open(root: string, signal?: AbortSignal): Promise<ContentHashes> {
    const file = join(root, 'hashes.json')
    return new ContentHashes(file, new Hashes(knownIn((await readTextIfThere(file)) ?? '{}'), signal))
  }

  /** What was at the path when it was first asked for: a study does not change while it runs. */
  of(path: string): Promise<string> {
    const found = this.#found.get(path) ?? this.#hashes.of(path)
    this.#found.set(path, found)
    return found
  }

  /** Null where there is no such thing. */
  ofAny(path: string): Promise<string | null> {
    const found = this.#any.get(path) ?? this.#hashes.ofAny(path)
    this.#any.set(path, found)
    return found
  }

  /** Keeps the hashes of large files for later processes. */
  async save(): Promise<void> {
    if (Object.keys(this.#hashes.used).length > 0) await writeJson(this.#file, this.#hashes.used)
  }
}

/** A damaged memory is none. */
function knownIn(text: string): KnownHashes {
  try {
    return knownHashes.parse(JSON.parse(text))
  } catch {
    return {}
  }
}
