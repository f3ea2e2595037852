/**
 * The images that an engine holds: decoded ahead or when they are asked for, encoded together, released when others take their place or
 * their user is done, also by an error. The vision tower is frozen, so what is held never has to be encoded again.
 */
import { AbortedError, abortedBy, atPlace, expected, throwIfAborted } from '../errors.js'
import { checkOptions } from '../options.js'
import type { CallOptions, Engine } from './engine.js'
import type { ImageFeatures, ImageInput, PreparedImage } from './native.js'

/** An image that can be decoded when it is needed. */
export interface ImageSource {
  /** Equal ids are the same image: a hash of its content, or where it is kept. */
  id: string
  /** For messages. */
  path: string
  /** The pixels. Called at most once while the image is held. */
  decode(): Promise<ImageInput>
}

/** Images that are decoded at a time, each in memory as pixels; the image library has as many threads. */
const decodedAtOnce = 4

/** An image on its way to the tower. */
class Job {
  /** A `hold` waits for it. */
  asked = false
  readonly image: Promise<PreparedImage>
  readonly #path: string
  readonly #make: () => Promise<PreparedImage>
  #resolve!: (image: PreparedImage) => void
  #reject!: (error: unknown) => void

  constructor({ path }: ImageSource, make: () => Promise<PreparedImage>) {
    this.#path = path
    this.#make = make
    this.image = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  /** Decodes and prepares it. */
  run(): Promise<void> {
    return this.#make().then(this.#resolve, this.#reject)
  }

  /** Nobody wants it any more. Ends the wait of whoever still does. */
  drop(): void {
    this.#reject(new AbortedError(`${this.#path} is not needed`))
  }
}

/** Least recently used first out. Declare it with `await using`, or call `clear`. */
export class ImageCache implements AsyncDisposable {
  readonly #engine: Engine
  readonly #capacity: number
  /** By the id of the source; the order is that of use. */
  readonly #held = new Map<string, ImageFeatures>()
  /** By the id of the source: ready for the tower, or on the way there. */
  readonly #prepared = new Map<string, Job>()
  /** Those among them that nobody has begun with, and what is under way. */
  readonly #queue = new Set<Job>()
  readonly #running = new Set<Promise<void>>()
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

  /** Seconds that all calls of `hold` together have waited for images to be read, decoded and prepared. */
  get secondsWaited(): number {
    return this.#waited / 1000
  }

  /**
   * Starts what the host does for images that will be held next, and returns at once: they are read, decoded and
   * prepared while the engine is at work, in this order, `capacity` of them at most, behind those that a `hold` waits for.
   * What was prepared before and is not among them is dropped. What is wrong with one of them is said by the `hold` that
   * asks for it.
   */
  prepare(sources: readonly ImageSource[]): void {
    const next = new Map<string, ImageSource>()
    for (const source of sources) {
      if (next.size === this.#capacity) break
      if (!this.#held.has(source.id)) next.set(source.id, source)
    }
    for (const [id, { asked }] of this.#prepared) if (!asked && !next.has(id)) this.#drop(id)
    for (const source of next.values()) this.#ready(source)
  }

  /**
   * Makes these images available to the engine; what is not among them may be released. Those that it does not hold yet
   * go through the tower together.
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

  /** Releases every image from the engine, and drops what was prepared; the cache can be used again. */
  async clear(): Promise<void> {
    for (const id of this.#prepared.keys()) this.#drop(id)
    await this.#release([...this.#held.keys()])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // An engine that was closed, or lost its device, holds nothing; why it was is the error to show.
    await this.clear().catch(() => {})
    await Promise.all(this.#running)
  }

  /** An error leaves nothing in the engine that is not noted here: it holds all of a call's images or none. */
  async #encode(sources: readonly ImageSource[], options: CallOptions): Promise<void> {
    if (sources.length === 0) return
    const started = performance.now()
    const coming = sources.map((source) => this.#ready(source, options))
    const images: PreparedImage[] = []
    try {
      for (const image of coming) {
        throwIfAborted(options.signal)
        images.push(await abortable(image, options.signal))
      }
    } finally {
      for (const { id } of sources) this.#drop(id)
      this.#waited += performance.now() - started
    }
    const [{ path }] = sources
    const place = sources.length === 1 ? path : `${path} and ${sources.length - 1} more`
    const features = await this.#engine.encodeImages(images, options).catch(atPlace(place))
    for (const [index, { id }] of sources.entries()) this.#held.set(id, features[index])
  }

  /** Decoded and prepared, now or before. @param asked what a `hold` that waits for it was called with. */
  #ready(source: ImageSource, asked?: CallOptions): Promise<PreparedImage> {
    const job = this.#prepared.get(source.id) ?? this.#add(source, asked)
    job.asked ||= asked !== undefined
    this.#begin()
    return job.image
  }

  #add(source: ImageSource, options: CallOptions = {}): Job {
    const make = async (): Promise<PreparedImage> => {
      const image = await source.decode()
      const [prepared] = await this.#engine.prepareImages([image], options).catch(atPlace(source.path))
      return prepared
    }
    const job = new Job(source, make)
    job.image.catch(() => {
      // It takes no place of another, and whoever asks for it again tries it again.
      if (this.#prepared.get(source.id) === job) this.#prepared.delete(source.id)
    })
    this.#prepared.set(source.id, job)
    this.#queue.add(job)
    return job
  }

  /** Those that are asked for first. */
  #begin(): void {
    while (this.#running.size < decodedAtOnce && this.#queue.size > 0) {
      const jobs = [...this.#queue]
      const job = jobs.find(({ asked }) => asked) ?? jobs[0]
      this.#queue.delete(job)
      const work = job.run().finally(() => {
        this.#running.delete(work)
        this.#begin()
      })
      this.#running.add(work)
    }
  }

  #drop(id: string): void {
    const job = this.#prepared.get(id)
    if (!job) return
    this.#prepared.delete(id)
    if (this.#queue.delete(job)) job.drop()
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

/** Ends with the signal; the work goes on. */
async function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work
  let stop = (): void => {}
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(abortedBy(signal))
    signal.addEventListener('abort', stop)
  })
  return Promise.race([work, aborted]).finally(() => signal.removeEventListener('abort', stop))
}
