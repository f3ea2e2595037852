/**
 * The images that an engine holds: decoded and encoded when they are asked for, released when others take their place or
 * their user is done, also by an error. The vision tower is frozen, so what is held never has to be encoded again.
 */
import { atPlace, expected } from '../errors.js'
import { checkOptions } from '../options.js'
import type { CallOptions, Engine } from './engine.js'
import type { ImageFeatures, ImageInput } from './native.js'

/** An image that can be decoded when it is needed. */
export interface ImageSource {
  /** Equal ids are the same image: a hash of its content, or where it is kept. */
  id: string
  /** For messages. */
  path: string
  /** The pixels. Called at most once while the image is held. */
  decode(): Promise<ImageInput>
}

/** Least recently used first out. Declare it with `await using`, or call `clear`. */
export class ImageCache implements AsyncDisposable {
  readonly #engine: Engine
  readonly #capacity: number
  /** By the id of the source; the order is that of use. */
  readonly #held = new Map<string, ImageFeatures>()
  #waited = 0

  /** @param capacity distinct images kept; a single `hold` may exceed it while its own images need it. */
  constructor(engine: Engine, capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1) throw expected('a positive integer', 'capacity', capacity)
    this.#engine = engine
    this.#capacity = capacity
  }

  /** Images held now. */
  get size(): number {
    return this.#held.size
  }

  /** Seconds that all calls of `hold` together have waited for images to be read and decoded. */
  get secondsWaited(): number {
    return this.#waited / 1000
  }

  /**
   * Makes these images available to the engine; what is not among them may be released.
   * @returns the features of each, in order; `id` is what the engine knows it by.
   */
  async hold(sources: readonly ImageSource[], options: CallOptions = {}): Promise<ImageFeatures[]> {
    checkOptions('ImageCache.hold', options, { signal: true })
    const wanted = new Map(sources.map((source) => [source.id, source]))
    const missing = [...wanted.values()].filter(({ id }) => !this.#held.has(id))
    const others = [...this.#held.keys()].filter((id) => !wanted.has(id))
    await this.#release(others.slice(0, Math.max(0, this.#held.size + missing.length - this.#capacity)))
    await this.#encode(missing, options)
    const features = sources.map(({ id }) => this.#held.get(id) as ImageFeatures)
    for (const [index, { id }] of sources.entries()) {
      this.#held.delete(id)
      this.#held.set(id, features[index])
    }
    return features
  }

  /** Releases every image from the engine; the cache can be used again. */
  async clear(): Promise<void> {
    await this.#release([...this.#held.keys()])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // An engine that was closed, or lost its device, holds nothing; why it was is the error to show.
    await this.clear().catch(() => {})
  }

  /** One by one, so that an error leaves nothing in the engine that is not noted here. */
  async #encode(sources: readonly ImageSource[], options: CallOptions): Promise<void> {
    let decoding = sources[0]?.decode()
    for (const [index, { id, path }] of sources.entries()) {
      const started = performance.now()
      const image = await decoding
      this.#waited += performance.now() - started
      // Decoded while the tower is at work: at most two images are in memory as pixels.
      decoding = sources[index + 1]?.decode()
      decoding?.catch(() => {})
      const [features] = await this.#engine.encodeImages([image], options).catch(atPlace(path))
      this.#held.set(id, features)
    }
  }

  async #release(ids: readonly string[]): Promise<void> {
    const gone = ids.map((id) => this.#held.get(id)?.id)
    for (const id of ids) this.#held.delete(id)
    // Two files may be one image.
    const kept = new Set([...this.#held.values()].map(({ id }) => id))
    const free = [...new Set(gone)].filter((id) => id !== undefined && !kept.has(id)) as string[]
    if (free.length > 0) await this.#engine.releaseImages(free)
  }
}
