/**
 * An OpenAI-compatible chat endpoint: retries with back-off, a common pause when it asks for one, time limits, a cache of
 * paid replies and a budget that is never exceeded.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import pLimit from 'p-limit'
import { z } from 'zod'
import { ConfigError, EndpointError } from '../../errors.js'
import { isTransientStatus, retryAfter, retrying, TransientError } from '../../http/retry.js'
import { type CachedReply, type RequestCache, requestKey } from './cache.js'

export interface EndpointSettings {
  /** Up to and without `/chat/completions`. */
  baseUrl: string
  model: string
  key: string | undefined
  /** Requests under way at once. */
  concurrency: number
  /** Attempts after the first that are forgiven for one request. */
  retries: number
  /** Before the first retry; doubles each time. */
  delayMs: number
  /** For one attempt, its body included. */
  timeoutMs: number
  /** Requests a minute; 0 = as fast as they come. */
  requestsPerMinute: number
  /** US dollars; `null` = no limit. */
  budget: number | null
  /** US dollars per million tokens. */
  price: { input: number; output: number }
  maxTokens: number
}

export interface Message {
  role: 'system' | 'user' | 'assistant'
  content: string
}

export interface ChatRequest {
  messages: readonly Message[]
  /** Name and JSON schema of the reply. */
  schema: { name: string; schema: object }
}

export interface Usage {
  /** Requests that this run rests on, from the endpoint or from the cache. */
  requests: number
  promptTokens: number
  completionTokens: number
  cost: number
}

/** No money is left for the next request. */
export class BudgetError extends Error {}
/** The request failed after all attempts; another one may go well. */
export class RequestFailed extends Error {}

const largestBody = 4 * 2 ** 20
const longestWaitMs = 300_000
/** So many requests that fail one after the other mean that the endpoint is gone. */
const failuresInARow = 8

const completion = z.object({
  choices: z
    .array(z.object({ message: z.object({ content: z.string().nullish() }), finish_reason: z.string().nullish() }))
    .min(1),
  usage: z
    .object({ prompt_tokens: z.number().int().nonnegative(), completion_tokens: z.number().int().nonnegative() })
    .nullish()
    // A reply was paid for even where its counts are unusable: asking again would pay again.
    .catch(undefined),
})

export interface ClientOptions {
  cache: RequestCache
  signal: AbortSignal
  onLog: (line: string) => void
}

export class ChatEndpoint {
  readonly settings: EndpointSettings
  /** Requests that went over the wire and were answered, in this process. */
  sent = 0
  readonly #options: ClientOptions
  readonly #limit: ReturnType<typeof pLimit>
  readonly #used = new Map<string, CachedReply>()
  readonly #tokens = { prompt: 0, completion: 0 }
  readonly #underWay = new Map<string, Promise<CachedReply>>()
  #reserved = 0
  #failed = 0
  #pausedUntil = 0
  #nextStart = 0
  #structured = true

  /** @throws {ConfigError} when the address cannot be used or a budget has no prices to count with. */
  constructor(settings: EndpointSettings, options: ClientOptions) {
    checkSettings(settings)
    this.settings = { ...settings, baseUrl: settings.baseUrl.replace(/\/+$/, '') }
    this.#options = options
    this.#limit = pLimit(settings.concurrency)
  }

  /** What the requests of this run cost, also those that an earlier one paid for. */
  get usage(): Usage {
    const { prompt, completion } = this.#tokens
    const cost = this.#price(prompt, completion)
    return { requests: this.#used.size, promptTokens: prompt, completionTokens: completion, cost }
  }

  /** The name of a request in the cache. The key and how it is sent are no part of it. */
  keyOf({ messages, schema }: ChatRequest): string {
    const { baseUrl, model, maxTokens } = this.settings
    return requestKey([baseUrl, model, maxTokens, messages, schema])
  }

  /**
   * The reply to a request, from the cache if it was paid for already.
   * @throws {BudgetError} @throws {RequestFailed} @throws {EndpointError} when no request can go well any more.
   */
  async ask(request: ChatRequest): Promise<CachedReply> {
    const key = this.keyOf(request)
    const underWay = this.#underWay.get(key)
    if (underWay) return underWay
    const reply = this.#limit(() => this.#answer(key, request))
    this.#underWay.set(key, reply)
    return reply.finally(() => this.#underWay.delete(key))
  }

  async #answer(key: string, request: ChatRequest): Promise<CachedReply> {
    this.#options.signal.throwIfAborted()
    const cached = this.#used.get(key) ?? (await this.#options.cache.read(key))
    if (cached) return this.#count(key, cached)
    const reserve = this.#reserve(request)
    try {
      const reply = await this.#retrying(request)
      await this.#options.cache.write(key, reply)
      this.#failed = 0
      return this.#count(key, reply)
    } finally {
      this.#reserved -= reserve
    }
  }

  #count(key: string, reply: CachedReply): CachedReply {
    if (!this.#used.has(key)) {
      this.#used.set(key, reply)
      this.#tokens.prompt += reply.promptTokens
      this.#tokens.completion += reply.completionTokens
    }
    return reply
  }

  #price(promptTokens: number, completionTokens: number): number {
    const { input, output } = this.settings.price
    return (promptTokens * input + completionTokens * output) / 1e6
  }

  /** The most a request can cost: no tokenizer makes more tokens than there are bytes. */
  #reserve(request: ChatRequest): number {
    const { budget, maxTokens } = this.settings
    if (budget === null) return 0
    const most = this.#price(Buffer.byteLength(JSON.stringify([request.messages, request.schema])), maxTokens)
    if (this.usage.cost + this.#reserved + most > budget) throw new BudgetError(`the budget of $${budget} is spent`)
    this.#reserved += most
    return most
  }

  async #retrying(request: ChatRequest): Promise<CachedReply> {
    const { retries, delayMs } = this.settings
    const { signal, onLog } = this.#options
    try {
      return await retrying(() => this.#attempt(request), {
        ...{ retries, delayMs, signal },
        onRetry: (message) => onLog(`${this.settings.model}: ${message}`),
      })
    } catch (error) {
      if (!(error instanceof TransientError)) throw error
      throw this.#giveUp(`${error.message} (${retries + 1} attempts)`)
    }
  }

  /** The end of one request, or of the run when nothing goes well any more. */
  #giveUp(message: string): Error {
    if (++this.#failed < failuresInARow) return new RequestFailed(message)
    return new EndpointError(`${this.settings.baseUrl} failed ${failuresInARow} times in a row: ${message}`, {
      hint: 'Run the same command again later: what is paid for is in the cache.',
    })
  }

  async #attempt(request: ChatRequest): Promise<CachedReply> {
    await this.#turn()
    const { status, headers, text } = await this.#post(request)
    if (status === 200) return this.#parse(text)
    const said = text.slice(0, 200).replace(/\s+/g, ' ').trim()
    if (isTransientStatus(status)) {
      const wait = Math.min(retryAfter(headers.get('retry-after')), longestWaitMs)
      // Whoever asks for a pause asks all requests, not only this one.
      this.#pausedUntil = Math.max(this.#pausedUntil, Date.now() + wait)
      throw new TransientError(status === 429 ? 'too many requests' : `the endpoint answered ${status}`)
    }
    if (status === 400 && this.#structured && /response_format|json_schema|schema/i.test(text)) {
      this.#structured = false
      this.#options.onLog(`${this.settings.model} takes no JSON schema; replies are checked all the same`)
      throw new TransientError('no JSON schema')
    }
    // Too long, or not to its taste: this request fails, the next one may not.
    if (status === 400 || status === 413 || status === 422)
      throw this.#giveUp(`the endpoint answered ${status}: ${said}`)
    throw new EndpointError(`${this.settings.baseUrl} answered ${status}: ${said}`, {
      detail: { status },
      hint: status === 401 || status === 403 ? 'Check the key (--key-env).' : 'Check the address and --model.',
    })
  }

  /** Waits for the common pause and for this request's place in the minute. */
  async #turn(): Promise<void> {
    const { requestsPerMinute } = this.settings
    const { signal } = this.#options
    if (requestsPerMinute > 0) {
      const start = Math.max(Date.now(), this.#nextStart)
      this.#nextStart = start + 60_000 / requestsPerMinute
      await sleep(start - Date.now(), undefined, { signal })
    }
    for (let wait = this.#pausedUntil - Date.now(); wait > 0; wait = this.#pausedUntil - Date.now()) {
      await sleep(wait, undefined, { signal })
    }
  }

  async #post(request: ChatRequest): Promise<{ status: number; headers: Headers; text: string }> {
    const { baseUrl, model, key, timeoutMs, maxTokens } = this.settings
    const format = { type: 'json_schema', json_schema: { ...request.schema, strict: true } }
    const body = JSON.stringify({
      ...{ model, messages: request.messages, temperature: 0, max_tokens: maxTokens },
      ...(this.#structured && { response_format: format }),
    })
    const timeout = AbortSignal.timeout(timeoutMs)
    const { signal } = this.#options
    try {
      const response = await fetch(`${baseUrl}/chat/completions`, {
        ...{ method: 'POST', body, redirect: 'manual', signal: AbortSignal.any([signal, timeout]) },
        headers: { 'content-type': 'application/json', ...(key && { authorization: `Bearer ${key}` }) },
      })
      return { status: response.status, headers: response.headers, text: await readBody(response) }
    } catch (error) {
      signal.throwIfAborted()
      if (timeout.aborted) throw new TransientError(`no answer within ${timeoutMs / 1000} s`)
      if (!(error instanceof TypeError)) throw error
      const cause = error.cause as { message?: string } | undefined
      throw new TransientError(cause?.message || error.message)
    }
  }

  /** A page of a proxy is no reply, and nothing that was paid for. */
  #parse(text: string): CachedReply {
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch {
      throw new TransientError('the endpoint answered with something that is not JSON')
    }
    const parsed = completion.safeParse(value)
    if (!parsed.success) throw new TransientError('the endpoint answered with something that is no chat completion')
    const { choices, usage } = parsed.data
    if (!usage && this.settings.budget !== null) {
      throw new EndpointError(`${this.settings.baseUrl} does not say how many tokens it used`, {
        hint: 'A budget cannot be kept without; leave --budget out.',
      })
    }
    this.sent++
    return {
      // A refusal has no content; it is a reply all the same.
      content: choices[0].message.content ?? '',
      finishReason: choices[0].finish_reason ?? null,
      promptTokens: usage?.prompt_tokens ?? 0,
      completionTokens: usage?.completion_tokens ?? 0,
    }
  }
}

function checkSettings({ baseUrl, budget, price }: EndpointSettings): void {
  const url = URL.canParse(baseUrl) ? new URL(baseUrl) : undefined
  if (!url || !/^https?:$/.test(url.protocol)) throw new ConfigError(`${baseUrl} is no address of an endpoint`)
  // It would end up in provenance and logs.
  if (url.username || url.password)
    throw new ConfigError('Put the key into a variable (--key-env), not into the address')
  if (budget !== null && price.input + price.output === 0) {
    throw new ConfigError('A budget needs prices', {
      hint: 'Give --price-in and --price-out, in dollars per million tokens.',
    })
  }
}

async function readBody(response: Response): Promise<string> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of response.body ?? []) {
    bytes += part.length
    if (bytes > largestBody) throw new TransientError(`an answer of more than ${largestBody} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}
