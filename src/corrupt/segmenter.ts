/**
 * The client of a segmentation service (contract in docs/corruption.md). An answer is kept on disk, so no question is
 * asked twice; a service that stays out of order stops the run instead of turning targeted noise into the fallback.
 */
import { z } from 'zod'
import { AnswerCache, hashOf } from '../data/cache.js'
import type { Size } from '../data/records.js'
import { ArgumentError, SegmenterError } from '../errors.js'
import { TransientError } from '../http/failure.js'
import { postJson } from '../http/post.js'
import { passingStatus, type RetrySettings, retrying } from '../http/retry.js'
import { anAddress, below, isAddress, printable } from '../http/service.js'
import { emptyMask, type Mask, union } from './masks/mask.js'
import { decodeRle } from './masks/rle.js'

export interface SegmenterOptions extends RetrySettings {
  /** Address of the service; `/v1/segment` is added unless it is there. */
  url: string
  /** Detections below this score are not asked for and not taken. */
  threshold: number
  /** Boxes that overlap more than this are one detection. */
  nmsIou: number
  /** For a whole answer. */
  timeoutMs: number
  /** Bearer token. */
  token?: string
  /** Folder of answers. */
  cache: string
  signal?: AbortSignal
  onRetry?: (message: string) => void
}

/** The image as the service gets it: the displayed one, so that its coordinates are those of the mask. */
export interface SegmentedImage extends Size {
  sha256: string
  png(): Promise<Buffer>
}

export interface Segmentation {
  /** Union of the detections; all outside when there are none. */
  mask: Mask
  detections: number
}

const unit = z.number().min(0).max(1)
const answerSchema = z.object({
  model: z.string(),
  width: z.number().int().positive(),
  height: z.number().int().positive(),
  results: z.array(
    z.object({
      prompt: z.string(),
      detections: z.array(
        z.object({
          score: unit,
          rle: z.object({
            size: z.tuple([z.number().int().positive(), z.number().int().positive()]),
            counts: z.union([z.string(), z.array(z.number().int().nonnegative())]),
          }),
        }),
      ),
    }),
  ),
})
type Answer = z.infer<typeof answerSchema>

/** Bytes: a few hundred masks of the largest image; more is no answer. */
const largestAnswer = 2 ** 26

const denied = 'Name the variable of its token with --segmenter-key-env.'
const hints: Record<number, string> = {
  400: 'The service does not like the request; docs/corruption.md has the contract.',
  401: denied,
  403: denied,
  413: 'The image is too large for the service.',
  422: 'The service does not like the request; docs/corruption.md has the contract.',
}

export class Segmenter {
  readonly #options: SegmenterOptions
  readonly #address: URL
  readonly #cache: AnswerCache<Answer>
  /** Requests that were sent in this run, retries too. */
  requests = 0

  /** @throws {ArgumentError} for an address that is none. */
  constructor(options: SegmenterOptions) {
    if (!isAddress(options.url)) throw new ArgumentError(`The segmenter's address: expected ${anAddress}`)
    this.#options = options
    this.#address = below(options.url, 'v1/segment')
    this.#cache = new AnswerCache(options.cache, answerSchema)
  }

  /**
   * Where the service sees a concept.
   * @throws {SegmenterError} when it refuses, stays out of order, or answers outside the contract.
   */
  async segment(image: SegmentedImage, prompt: string): Promise<Segmentation> {
    const { threshold, nmsIou } = this.#options
    const { sha256, width, height } = image
    const key = hashOf({ url: this.#address, sha256, width, height, prompt, threshold, nmsIou })
    const known = await this.#cache.read(key)
    if (known) return this.#toMask(known, image, prompt)
    const answer = await this.#ask(image, prompt)
    const segmentation = this.#toMask(answer, image, prompt)
    await this.#cache.write(key, answer)
    return segmentation
  }

  async #ask(image: SegmentedImage, prompt: string): Promise<Answer> {
    const { threshold, nmsIou, retries, delayMs, signal, onRetry } = this.#options
    const png = await image.png()
    const body = {
      image: `data:image/png;base64,${png.toString('base64')}`,
      prompts: [prompt],
      threshold,
      nms_iou: nmsIou,
    }
    const hint = 'Run the same command again when the service is well: what it has answered is kept.'
    const json = await retrying(() => this.#request(body, `${printable(this.#address)} ("${prompt}")`), {
      retries,
      delayMs,
      signal,
      onRetry,
      giveUp: (message, { hint: own, cause }) =>
        new SegmenterError(message, { hint: own ? `${own} ${hint}` : hint, cause }),
    })
    const { data, error } = answerSchema.safeParse(json)
    if (data) return data
    const reasons = error.issues.slice(0, 3).map(({ path, message }) => `${path.join('.')}: ${message}`)
    throw this.#outside(prompt, reasons.join('; '))
  }

  async #request(body: object, what: string): Promise<unknown> {
    const { timeoutMs, signal, token } = this.#options
    this.requests += 1
    const answer = await postJson(this.#address, body, {
      what,
      key: token,
      timeoutMs,
      maxBytes: largestAnswer,
      signal,
      Failure: SegmenterError,
    })
    const { status, json, said } = answer
    if (status !== 200) {
      const hint = hints[status] ?? 'Check the address of the service.'
      const refused = new SegmenterError(`${what}: the server answered ${status}${said}`, { detail: { status }, hint })
      throw passingStatus(answer, what, said) ?? refused
    }
    if (json !== undefined) return json
    // JSON that breaks off may be whole the next time; a page comes from another kind of server.
    const message = `${what}: the answer is not JSON${said}`
    if (!said.startsWith(': <')) throw new TransientError(message)
    throw new SegmenterError(message, { hint: 'Is this the address of the segmentation service?' })
  }

  #toMask(answer: Answer, image: SegmentedImage, prompt: string): Segmentation {
    if (answer.width !== image.width || answer.height !== image.height) {
      const sizes = `it segmented ${answer.width} x ${answer.height}, the image is ${image.width} x ${image.height}`
      throw this.#outside(prompt, sizes)
    }
    const result = answer.results.find((candidate) => candidate.prompt === prompt)
    if (!result) throw this.#outside(prompt, 'no result has the prompt that was asked')
    const masks = result.detections
      .filter(({ score }) => score >= this.#options.threshold)
      .map(({ rle }) => {
        const [height, width] = rle.size
        if (width !== image.width || height !== image.height) {
          throw this.#outside(prompt, `a mask of ${width} x ${height} for ${image.width} x ${image.height}`)
        }
        try {
          return decodeRle(rle, 'rle')
        } catch (error) {
          throw this.#outside(prompt, (error as Error).message)
        }
      })
    return { mask: masks.length > 0 ? union(masks) : emptyMask(image), detections: masks.length }
  }

  #outside(prompt: string, problem: string): SegmenterError {
    return new SegmenterError(`${printable(this.#address)} ("${prompt}") answers outside the contract: ${problem}`, {
      hint: 'docs/corruption.md has the contract, docs/segmenter a server that keeps it.',
    })
  }
}
