/**
 * One chat completion from any server that speaks OpenAI's `/chat/completions` (vLLM, llama.cpp, a hosted model): retries
 * with back-off, a time limit an attempt, and every kind of wrong answer told apart.
 */
import { z } from 'zod'
import { ArgumentError, EndpointError, expected } from '../errors.js'
import {
  isPassing,
  isTransientStatus,
  type RetrySettings,
  retryAfter,
  retrying,
  TransientError,
} from '../http/retry.js'

export interface EndpointOptions {
  /** Up to and including the version, for instance `http://localhost:8000/v1`. */
  url: string
  /** The model's name at the server. */
  model: string
  /** Sent as a bearer token; never printed. */
  key?: string
  /** Milliseconds one attempt may take. */
  timeoutMs: number
  retry: RetrySettings
  signal?: AbortSignal
  onRetry?: (message: string) => void
}

export interface ChatRequest {
  prompt: string
  /** Shown before the prompt, in this order. */
  images: readonly { mime: string; bytes: Uint8Array }[]
  maxTokens: number
  temperature: number
  topP: number
  /** 0 = off; not part of OpenAI's interface, so it is sent only when it is on. */
  topK: number
  seed: number
  stop: readonly string[]
}

export interface ChatAnswer {
  text: string
  /** Why it ended, in the server's words: `stop`, `length`, … */
  finish: string
}

const completion = z.object({
  choices: z
    .array(z.object({ message: z.object({ content: z.string() }), finish_reason: z.string().nullish() }))
    .min(1),
})

const refusal = z.object({ error: z.union([z.string(), z.object({ message: z.string() })]) })

/** Room for what a server says about itself in a message of ours. */
const saidLength = 200

export class ChatEndpoint {
  readonly #options: EndpointOptions
  readonly #address: string

  /** @throws {ArgumentError} when the address is none of http or https, or the time limit none. */
  constructor(options: EndpointOptions) {
    if (!URL.canParse(options.url) || !/^https?:$/.test(new URL(options.url).protocol)) {
      throw new ArgumentError(`The endpoint must be an http or https address, not "${options.url}"`)
    }
    const { username, password } = new URL(options.url)
    // Also kept out of what is printed and written about the endpoint.
    if (username !== '' || password !== '')
      throw new ArgumentError('The address of the endpoint holds a user or password')
    // Longer than a timer can count is as good as for ever, and a timer would fire at once.
    if (!(options.timeoutMs > 0 && options.timeoutMs < 2 ** 31)) {
      throw expected('a positive number of milliseconds below 2^31', 'timeoutMs', options.timeoutMs)
    }
    this.#options = options
    this.#address = `${options.url.replace(/\/+$/, '')}/chat/completions`
  }

  /**
   * Asks once, again where that may help.
   * @throws {EndpointError} with `detail.scope` `request` when only this request is at fault, `endpoint` when no other
   *   would fare better.
   */
  async complete(request: ChatRequest): Promise<ChatAnswer> {
    const { retry, signal, onRetry } = this.#options
    const body = JSON.stringify(this.#body(request))
    try {
      return await retrying(() => this.#attempt(body), { ...retry, signal, onRetry })
    } catch (error) {
      if (!(error instanceof TransientError)) throw error
      const { scope = 'request', ...detail } = error.detail
      throw new EndpointError(`${error.message} (${retry.retries + 1} attempts)`, {
        detail: { ...detail, scope, endpoint: this.#address },
        hint: 'Check that the server runs; the same command goes on where it stopped.',
        cause: error.cause,
      })
    }
  }

  async #attempt(body: string): Promise<ChatAnswer> {
    const { key, timeoutMs, signal } = this.#options
    const limit = AbortSignal.timeout(timeoutMs)
    try {
      const response = await fetch(this.#address, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(key && { authorization: `Bearer ${key}` }) },
        body,
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
      })
      return this.#read(response, await response.text())
    } catch (error) {
      if (signal?.aborted) throw error
      if (limit.aborted) throw new TransientError(`${this.#address} gave no answer within ${timeoutMs / 1000} s`)
      throw this.#connectionError(error)
    }
  }

  #read({ status, ok, headers }: Response, text: string): ChatAnswer {
    if (isTransientStatus(status)) {
      const what = status === 429 ? 'too many requests' : `status ${status}`
      const wait = retryAfter(headers.get('retry-after'))
      throw new TransientError(`${this.#address}: ${what}${this.#said(text)}`, { status }, wait)
    }
    if (!ok) throw this.#refused(status, text)
    let answer: unknown
    try {
      answer = JSON.parse(text)
    } catch (error) {
      // A proxy's page or an answer that was cut off: both may be gone the next time.
      const what = /^\s*</.test(text) ? 'an HTML page' : 'something that is not JSON'
      throw new TransientError(`${this.#address} answered ${what}${this.#said(text)}`, { status }, 0, error)
    }
    const parsed = completion.safeParse(answer)
    if (parsed.success) {
      const [{ message, finish_reason: finish }] = parsed.data.choices
      return { text: message.content, finish: finish ?? 'unknown' }
    }
    const [{ path, message }] = parsed.error.issues
    throw new EndpointError(`${this.#address} answered no completion: ${path.join('.')}: ${message}`, {
      detail: { scope: 'request', status },
    })
  }

  #refused(status: number, text: string): EndpointError {
    const ours = status === 401 || status === 403 || status === 404 || status === 405
    const hint =
      status === 401 || status === 403
        ? 'Name the variable with the key: --key-env NAME.'
        : 'Check the address (it usually ends in /v1) and the model name.'
    return new EndpointError(`${this.#address}: status ${status}${this.#said(text)}`, {
      detail: { status, scope: ours ? 'endpoint' : 'request' },
      hint: ours ? hint : undefined,
    })
  }

  /** A failure of `fetch` itself; everything else passes through. */
  #connectionError(error: unknown): unknown {
    if (!(error instanceof TypeError)) return error
    const cause = error.cause as { code?: string; message?: string } | undefined
    const message = `${this.#address}: ${cause?.message || cause?.code || error.message}`
    const detail = { scope: 'endpoint', systemCode: cause?.code }
    if (isPassing(cause?.code)) return new TransientError(message, detail, 0, error)
    return new EndpointError(message, { detail, hint: 'Check the address and the network.', cause: error })
  }

  /** What the server said, shortened, without a key that it may repeat. */
  #said(text: string): string {
    let said = text
    try {
      const { error } = refusal.parse(JSON.parse(text))
      said = typeof error === 'string' ? error : error.message
    } catch {
      // Not in OpenAI's form: the body as it is.
    }
    const { key } = this.#options
    if (key) said = said.replaceAll(key, '***')
    said = said.replace(/\s+/g, ' ').trim()
    return said === '' ? '' : `: ${said.length > saidLength ? `${said.slice(0, saidLength)}…` : said}`
  }

  #body({ prompt, images, maxTokens, temperature, topP, topK, seed, stop }: ChatRequest): object {
    const pictures = images.map(({ mime, bytes }) => ({
      type: 'image_url',
      image_url: { url: `data:${mime};base64,${Buffer.from(bytes).toString('base64')}` },
    }))
    return {
      model: this.#options.model,
      messages: [{ role: 'user', content: [...pictures, { type: 'text', text: prompt }] }],
      max_tokens: maxTokens,
      temperature,
      top_p: topP,
      ...(topK > 0 && { top_k: topK }),
      ...(stop.length > 0 && { stop }),
      seed,
    }
  }
}
