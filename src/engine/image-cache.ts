/**
 * Encoded images by content id, least recently used first out. The vision tower is frozen, so features never change:
 * each distinct image is decoded and encoded once while it stays within the capacity.
 */
import { expected } from '../errors.js'
import type { CallOptions, Engine } from './engine.js'
import type { ImageInput } from './native.js'

export interface ImageSource {
  /** Names the content: equal ids are the same image. */
  id: string
  decode(): Promise<ImageInput>
}

export class ImageCache {
  readonly #engine: Engine
  readonly #capacity: number
  /** Insertion order is age: a used id is deleted and inserted again. */
  readonly #held = new Set<string>()

  /** @param capacity distinct images kept; a single `ensure` call may exceed it while its own images need it. */
  constructor(engine: Engine, capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1) throw expected('a positive integer', 'capacity', capacity)
    this.#engine = engine
    this.#capacity = capacity
  }

  get size(): number {
    return this.#held.size
  }

  /** Makes all of these available to the engine; what is not among them may be released. */
  async ensure(sources: ImageSource[], options: CallOptions = {}): Promise<void> {
    const wanted = new Map(sources.map((source) => [source.id, source]))
    const missing = [...wanted.values()].filter((source) => !this.#held.has(source.id))
    await this.#evict(wanted, this.#held.size + missing.length - this.#capacity)
    const images = await Promise.all(missing.map((source) => source.decode()))
    if (images.length > 0) await this.#engine.encodeImages(images, options)
    for (const id of wanted.keys()) {
      this.#held.delete(id)
      this.#held.add(id)
    }
  }

  async clear(): Promise<void> {
    await this.#engine.releaseImages([...this.#held])
    this.#held.clear()
  }

  async #evict(keep: ReadonlyMap<string, ImageSource>, count: number): Promise<void> {
    if (count <= 0) return
    const oldest = [...this.#held].filter((id) => !keep.has(id)).slice(0, count)
    if (oldest.length === 0) return
    await this.#engine.releaseImages(oldest)
    for (const id of oldest) this.#held.delete(id)
  }
}
