/**
 * The client of a segmentation service (contract in docs/corruption.md). An answer is kept on disk, so no question is
 * asked twice; a service that stays out of order stops the run instead of turning targeted noise into the fallback.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { sha256, writeFileAtomic } from '../data/files.js'
import type { Size } from '../data/images.js'
import { isJson } from '../data/jsonl.js'
import { AbortedError, ArgumentError, SegmenterError } from '../errors.js'
import { isTransientStatus, retryAfter, retrying, TransientError } from '../http/retry.js'
import { emptyMask, type Mask, union } from './masks/mask.js'
import { decodeRle } from './masks/rle.js'

export interface SegmenterOptions {
  /** Address of the service; `/v1/segment` is added unless it is there. */
  url: string
  /** Detections below this score are not asked for and not taken. */
  threshold: number
  /** Boxes that overlap more than this are one detection. */
  nmsIou: number
  /** For a whole answer. */
  timeoutMs: number
  retries: number
  /** Before the first retry; doubles each time. A longer `Retry-After` is obeyed, up to five minutes. */
  delayMs: number
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

/** A few hundred masks of the largest image; more is no answer. */
const largestAnswer = 2 ** 26

export class Segmenter {
  readonly #options: SegmenterOptions
  readonly #address: string
  /** Requests that were sent in this run, retries too. */
  requests = 0

  /** @throws {ArgumentError} for an address that is not http or https. */
  constructor(options: SegmenterOptions) {
    this.#options = options
    if (!URL.canParse(options.url) || !/^https?:$/.test(new URL(options.url).protocol)) {
      throw new ArgumentError(`The segmenter's address is "${options.url}"; expected http:// or https://`)
    }
    // It stands in report.json and in every message.
    if (new URL(options.url).username !== '' || new URL(options.url).password !== '') {
      throw new ArgumentError("The segmenter's address holds a name or password", {
        hint: 'Put a token into a variable and name it with --segmenter-token-env.',
      })
    }
    const bare = options.url.replace(/\/+$/, '')
    this.#address = bare.endsWith('/v1/segment') ? bare : `${bare}/v1/segment`
  }

  /**
   * Where the service sees a concept.
   * @throws {SegmenterError} when it refuses, stays out of order, or answers outside the contract.
   */
  async segment(image: SegmentedImage, prompt: string): Promise<Segmentation> {
    const { threshold, nmsIou, cache } = this.#options
    const question = { url: this.#address, sha256: image.sha256, width: image.width, height: image.height }
    const key = sha256(JSON.stringify({ ...question, prompt, threshold, nmsIou }))
    const path = join(cache, `${key}.json`)
    const known = await readFile(path, 'utf8').catch(() => undefined)
    if (known !== undefined && isJson(known)) return this.#toMask(this.#parse(known, prompt), image, prompt)
    const text = await this.#ask(image, prompt)
    const segmentation = this.#toMask(this.#parse(text, prompt), image, prompt)
    await writeFileAtomic(path, text)
    return segmentation
  }

  async #ask(image: SegmentedImage, prompt: string): Promise<string> {
    const { threshold, nmsIou, retries, delayMs, signal, onRetry } = this.#options
    const png = await image.png()
    const body = JSON.stringify({
      image: `data:image/png;base64,${png.toString('base64')}`,
      prompts: [prompt],
      threshold,
      nms_iou: nmsIou,
    })
    const what = `${this.#address} ("${prompt}")`
    try {
      return await retrying(() => this.#request(body, what), { retries, delayMs, signal, onRetry })
    } catch (error) {
      if (signal?.aborted) throw new AbortedError()
      if (!(error instanceof TransientError)) throw error
      throw new SegmenterError(`${error.message} (${retries + 1} attempts)`, {
        hint: 'Run the same command again when the service is well: what it has answered is kept.',
        cause: error.cause,
      })
    }
  }

  /** The text of an answer that is JSON. */
  async #request(body: string, what: string): Promise<string> {
    const { timeoutMs, signal, token } = this.#options
    const timeout = AbortSignal.timeout(timeoutMs)
    const authorization: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {}
    this.requests += 1
    try {
      const response = await fetch(this.#address, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'application/json', ...authorization },
        body,
        // The image of a patient goes to the address that was given and to no other.
        redirect: 'manual',
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      })
      const text = await readText(response, what)
      if (response.ok) return requireJson(text, response, what)
      throw refusal(response, text, what)
    } catch (error) {
      if (signal?.aborted) throw new AbortedError()
      if (timeout.aborted) throw new TransientError(`${what}: no answer in ${timeoutMs / 1000} s`, {}, 0, error)
      // fetch's own failures: no connection, or one that broke off.
      if (error instanceof TypeError) {
        const { cause } = error as { cause?: { message?: string; code?: string } }
        throw new TransientError(`${what}: ${cause?.message || cause?.code || error.message}`, {}, 0, error)
      }
      throw error
    }
  }

  #parse(text: string, prompt: string): Answer {
    const parsed = answerSchema.safeParse(JSON.parse(text))
    if (parsed.success) return parsed.data
    const reasons = parsed.error.issues.slice(0, 3).map(({ path, message }) => `${path.join('.')}: ${message}`)
    throw this.#outside(prompt, reasons.join('; '))
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
    return new SegmenterError(`${this.#address} ("${prompt}") answers outside the contract: ${problem}`, {
      hint: 'docs/corruption.md has the contract, docs/segmenter a server that keeps it.',
    })
  }
}

async function readText(response: Response, what: string): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > largestAnswer) throw new SegmenterError(`${what}: the answer has more than ${largestAnswer} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** A page of a proxy is refused; JSON that breaks off may be whole the next time. */
function requireJson(text: string, response: Response, what: string): string {
  if (isJson(text)) return text
  const kind = response.headers.get('content-type') ?? 'no content type'
  const message = `${what}: the answer is not JSON (${kind}): ${JSON.stringify(text.slice(0, 80))}`
  if (/^\s*([{[]|$)/.test(text)) throw new TransientError(message)
  throw new SegmenterError(message, { hint: 'Is this the address of the segmentation service?' })
}

function refusal({ status, headers }: Response, text: string, what: string): Error {
  if (isTransientStatus(status)) {
    return new TransientError(
      `${what}: ${status === 429 ? 'too many requests' : `the server answered ${status}`}`,
      {},
      retryAfter(headers.get('retry-after')),
    )
  }
  if (status >= 300 && status < 400) {
    return new SegmenterError(`${what}: it redirects to ${headers.get('location')}, which is not followed`, {
      hint: 'Give the final address with --segmenter.',
    })
  }
  return new SegmenterError(`${what}: the server answered ${status}: ${JSON.stringify(text.slice(0, 200))}`, {
    detail: { status },
    hint: status === 401 || status === 403 ? 'Name the variable of its token with --segmenter-token-env.' : undefined,
  })
}
