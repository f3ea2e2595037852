/**
 * The one client of language-model servers (vLLM, llama.cpp, hosted ones): a common pace for all requests, a cache of paid
 * replies, a budget that is never exceeded, and every kind of failure told apart.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import pLimit from 'p-limit'
import { AnswerCache, hashOf } from '../data/cache.js'
import { EndpointError, throwIfAborted } from '../errors.js'
import { TransientError } from '../http/failure.js'
import { type Answer, postJson } from '../http/post.js'
import { passingStatus, retrying } from '../http/retry.js'
import { below, keyFrom, printable } from '../http/service.js'
import { checkOptions } from '../options.js'
import { Dialect } from './dialect.js'
import { withoutReasoning } from './reasoning.js'
import {
  bodyOf,
  type EndpointRequest,
  mostTokens,
  type Reply,
  readReply,
  reply,
  statusOf,
  tokenCount,
} from './request.js'
import { type EndpointInput, type EndpointSettings, parseEndpoint } from './settings.js'
import { joinEvents } from './stream.js'

/** Where replies are kept, and who listens. */
export interface EndpointOptions {
  /** Folder of paid replies; without one they are kept for this run only. */
  cache?: string
  /** Ends the requests under way too: nobody waits for them. */
  signal?: AbortSignal
  /** Lets no request begin; those under way have `stopGraceMs` to be answered, since they are paid for. See `settle`. */
  stop?: AbortSignal
  onLog?: (line: string) => void
}

/** What requests took: counts, tokens and money. */
export interface Usage {
  /** Requests that this run rests on, from the server or from the cache. */
  requests: number
  promptTokens: number
  completionTokens: number
  /** US dollars. */
  cost: number
}

/** This request failed; another one may go well. */
export class RequestError extends EndpointError {}
/** The request was answered with no text: a refusal, a call of a tool, thoughts that came to no end. */
export class EmptyReply extends RequestError {}
/** No money is left for the next request. */
export class BudgetError extends EndpointError {}

/** Bytes; the longest replies have some hundred thousand, and some three hundred a token as a stream. */
const largestAnswer = 2 ** 24
/** So many requests that fail one after the other mean that the server is gone. */
const failuresInARow = 8
/** How long replies under way are waited for after a stop. */
export const stopGraceMs = 10_000
/** Codes of connections that never stood: no other request would fare better. */
const unreachable = /^(ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN|UND_ERR_CONNECT_TIMEOUT)$/

const wrongAddress = 'Check the address (up to /v1) and the model.'
const wrongKey = 'Check the key and its variable (keyEnv).'
const hints: Record<number, string> = {
  400: 'What the server says is wrong is in the message. Check the model, and how much it takes.',
  401: wrongKey,
  402: 'The account has no money left at this server.',
  403: wrongKey,
  413: 'Send smaller images, or let the server take larger requests.',
  422: 'What the server says is wrong is in the message. Check the model, and how much it takes.',
}

const thoughtTooLong = ({ finishReason, instead }: Reply): boolean =>
  finishReason === 'length' || instead === 'only reasoning'

const totalOf = (request: EndpointRequest): number | undefined =>
  'prompt' in request ? request.totalTokens : undefined

/** Limits that no waiting mends. */
const unpaid = /insufficient_quota|billing|credit/i

/**
 * A client of one server; nothing is sent before the first `ask`.
 * @throws {ConfigError} when a setting is wrong, or the variable of the key holds none.
 */
export async function openEndpoint(given: EndpointInput, options: EndpointOptions = {}): Promise<Endpoint> {
  checkOptions('openEndpoint', options, { cache: true, signal: true, stop: true, onLog: true })
  const settings = parseEndpoint(given)
  const cache = options.cache === undefined ? undefined : await AnswerCache.open(options.cache, reply)
  return new Endpoint(settings, options, keyFrom(settings.keyEnv), cache)
}

/** A client of one server. Any number of requests may be under way; it keeps to concurrency, rate and budget itself. */
export class Endpoint {
  /** What the requests of this run cost, also those that an earlier one paid for. */
  readonly usage: Usage = { requests: 0, promptTokens: 0, completionTokens: 0, cost: 0 }
  /** Requests that went over the wire and were answered, in this process. */
  sent = 0
  readonly #options: EndpointOptions
  readonly #key: string | undefined
  readonly #cache: AnswerCache<Reply> | undefined
  readonly #limit: ReturnType<typeof pLimit>
  readonly #replies = new Map<string, Promise<Reply>>()
  /** Fields that decide replies and that the server did not take. */
  readonly leftOut = new Set<string>()
  readonly #dialect = new Dialect()
  /** Whether the server counts the tokens of a text; not known before the first is counted. */
  #countsTokens: boolean | undefined
  /** What is under way, with the most that it can cost in US dollars. */
  readonly #sending = new Map<Promise<Reply>, number>()
  /** Lets nothing begin. */
  readonly #stopped: AbortSignal
  /** Ends what is under way. */
  readonly #ended: AbortSignal
  #failed = 0
  #pausedUntil = 0
  #nextStart = 0

  /** Use `openEndpoint`. */
  constructor(
    readonly settings: EndpointSettings,
    options: EndpointOptions,
    key: string | undefined,
    cache: AnswerCache<Reply> | undefined,
  ) {
    this.#options = options
    this.#key = key
    this.#cache = cache
    this.#limit = pLimit(settings.concurrency)
    const { signal, stop } = options
    const late = new AbortController()
    stop?.addEventListener('abort', () => setTimeout(() => late.abort(), stopGraceMs).unref(), { once: true })
    this.#stopped = AbortSignal.any([signal, stop].flatMap((each) => each ?? []))
    this.#ended = AbortSignal.any([late.signal, ...(signal ? [signal] : [])])
  }

  /** After a stop: resolves when every request under way is answered and kept, or was given up. At once where nothing stopped. */
  async settle(): Promise<void> {
    if (this.#options.stop?.aborted) await Promise.allSettled(this.#replies.values())
  }

  /** The name of a request in the cache. The key, and what a server made us leave out, are no part of it. */
  keyOf(request: EndpointRequest): string {
    const { url, model, maxTokens } = this.settings
    const { temperature, topP, topK, seed, stop, ...asked } = request
    const content = 'messages' in asked ? [asked.messages, asked.schema] : [asked]
    const sampling = { temperature, topP, topK, seed, stop }
    // Left out when nothing is set, so that names stay as they were before there was sampling, and old caches hold.
    const drawn = Object.values(sampling).some((value) => value !== undefined) ? [sampling] : []
    return hashOf([url.replace(/\/+$/, ''), model, maxTokens, ...content, ...drawn]).slice(0, 32)
  }

  /**
   * The reply to a request, which is paid for once. It is never empty.
   * @throws {EmptyReply} @throws {RequestError} @throws {BudgetError}
   * @throws {EndpointError} when no request can go well any more.
   */
  async ask(request: EndpointRequest): Promise<Reply> {
    const key = this.keyOf(request)
    let asked = this.#replies.get(key)
    if (!asked) {
      asked = this.#limit(() => this.#answer(key, request))
      this.#replies.set(key, asked)
      asked.catch(() => this.#replies.delete(key))
    }
    return this.#withText(await asked)
  }

  #withText(reply: Reply): Reply {
    const { content, finishReason, instead = `finish: ${finishReason}` } = reply
    const isWithheld = finishReason === 'content_filter'
    if (withoutReasoning(content).trim() !== '' && !isWithheld) return reply
    const why = isWithheld ? 'withheld by a filter' : finishReason === 'length' ? 'its tokens were used up' : instead
    throw new EmptyReply(`${printable(this.settings.url)}: a reply without text (${why})`, {
      detail: { why },
      hint: thoughtTooLong(reply)
        ? 'Give more tokens, or turn the reasoning of the model off at the server.'
        : undefined,
    })
  }

  async #answer(key: string, request: EndpointRequest): Promise<Reply> {
    throwIfAborted(this.#stopped)
    const cached = await this.#cache?.read(key)
    if (cached) return this.#count(cached)
    const most = this.#price(mostTokens(request), totalOf(request) ?? this.settings.maxTokens)
    while (this.#exceedsBudget(most)) {
      await Promise.race(this.#sending.keys()).catch(() => {})
    }
    const sending = this.#send(request).finally(() => this.#sending.delete(sending))
    this.#sending.set(sending, most)
    const reply = await sending
    // What says nothing and cost nothing may be another reply the next time.
    if (reply.content.trim() !== '' || reply.completionTokens > 0) await this.#cache?.write(key, reply)
    return reply
  }

  /**
   * Whether a request has to wait, since all that is under way may cost too much together with it.
   * @throws {BudgetError} when it is too much without them.
   */
  #exceedsBudget(most: number): boolean {
    const { budget } = this.settings
    if (budget === null) return false
    const cost = this.usage.cost + most
    if (cost > budget) {
      const rest = `$${this.usage.cost.toFixed(4)} of $${budget} is spent, and the next request may cost $${most.toFixed(4)}`
      throw new BudgetError(`the budget ends: ${rest}`, { hint: 'Raise it; what was paid for is kept.' })
    }
    return [...this.#sending.values()].reduce((sum, other) => sum + other, cost) > budget
  }

  #count(reply: Reply): Reply {
    this.usage.requests += 1
    this.usage.promptTokens += reply.promptTokens
    this.usage.completionTokens += reply.completionTokens
    this.usage.cost = this.#price(this.usage.promptTokens, this.usage.completionTokens)
    for (const field of reply.leftOut ?? []) this.leftOut.add(field)
    return reply
  }

  #price(promptTokens: number, completionTokens: number): number {
    return (promptTokens * this.settings.priceIn + completionTokens * this.settings.priceOut) / 1e6
  }

  async #send(request: EndpointRequest): Promise<Reply> {
    const { url, retries, retryDelay } = this.settings
    const { onLog } = this.#options
    const address = below(url, 'messages' in request ? 'chat/completions' : 'completions')
    let answered: Reply | undefined
    const attempt = async (): Promise<Reply> => (answered = await this.#attempt(address, request))
    const reply = await retrying(attempt, {
      retries,
      delayMs: retryDelay * 1000,
      signal: this.#stopped,
      onRetry: onLog,
      giveUp: (message, last) => this.#giveUp(message, last),
    }).catch((error) => {
      // A reply that came after the stop is paid for.
      if (answered) return answered
      throw error
    })
    this.#failed = 0
    return this.#count(reply)
  }

  /** The end of one request, or of the run when nothing goes well any more. */
  #giveUp(message: string, { detail, hint, cause }: TransientError): EndpointError {
    const later = 'Run the same command again later: it goes on where it stopped.'
    const options = { detail, hint: hint ? `${hint} ${later}` : later, cause }
    if (unreachable.test(String(detail.systemCode))) return new EndpointError(message, options)
    if (++this.#failed < failuresInARow) return new RequestError(message, options)
    return new EndpointError(`${failuresInARow} requests failed in a row: ${message}`, options)
  }

  async #attempt(address: URL, request: EndpointRequest): Promise<Reply> {
    const maxTokens = await this.#longestReply(request)
    const asked = bodyOf(request, { model: this.settings.model, maxTokens: maxTokens ?? this.settings.maxTokens })
    const sent = this.#dialect.translate(asked)
    const answer = await this.#post(address, sent)
    const uncounted = maxTokens === undefined ? ['totalTokens'] : []
    const reply = this.#read(answer, asked, sent, uncounted)
    if (reply) return reply
    if (answer.status === 200) answer.status = statusOf(answer.json)
    const learned = this.#dialect.learn(sent, answer.status, answer.said)
    if (learned !== undefined) {
      if (learned !== '') this.#options.onLog?.(`${this.settings.model} takes ${learned}`)
      return this.#attempt(address, request)
    }
    const without = this.#dialect.withoutSchema(sent, answer.status, answer.said)
    const second = without && this.#read(await this.#post(address, without), asked, without, uncounted)
    if (second) return second
    throw this.#refusal(answer, printable(address))
  }

  /** Tokens that the reply may have; undefined where the prompt should be counted and the server has nothing that counts. */
  async #longestReply(request: EndpointRequest): Promise<number | undefined> {
    const total = totalOf(request)
    if (total === undefined || !('prompt' in request)) return this.settings.maxTokens
    if (this.#countsTokens === false) return undefined
    const { url, model } = this.settings
    // vLLM reads `prompt` and counts; llama.cpp reads `content` and lists. Both have it beside /v1, not below.
    const address = below(url.replace(/\/v\d+\/*(?=$|\?)/, ''), 'tokenize')
    const { prompt } = request
    const answer = await this.#post(address, { model, prompt, content: prompt, add_special: true })
    const busy = answer.status === 501 ? undefined : passingStatus(answer, printable(address), answer.said)
    if (busy) throw busy
    const count = answer.status === 200 ? tokenCount(answer.json) : undefined
    this.#countsTokens = count !== undefined
    if (count !== undefined) return Math.max(1, total - count)
    this.#options.onLog?.(
      `${printable(address)} counts no tokens: replies of ${model} may have ${this.settings.maxTokens} tokens, whatever the prompt leaves of ${total}`,
    )
    return undefined
  }

  async #post(address: URL, body: object): Promise<Answer> {
    throwIfAborted(this.#stopped)
    await this.#turn()
    const { keyHeader, timeout } = this.settings
    // Azure, which has its version in the query, takes keys in a header of its own.
    const usual = address.searchParams.has('api-version') ? ['authorization', 'api-key'] : ['authorization']
    return postJson(address, body, {
      what: printable(address),
      key: this.#key,
      keyHeaders: keyHeader === null ? usual : [keyHeader],
      signal: this.#ended,
      Failure: EndpointError,
      timeoutMs: timeout * 1000,
      maxBytes: largestAnswer,
    })
  }

  /** The reply in an answer; `undefined` when it has none. */
  #read(
    { status, json, text }: Answer,
    asked: Record<string, unknown>,
    sent: Record<string, unknown>,
    uncounted: string[],
  ): Reply | undefined {
    const reply = status === 200 ? readReply(json ?? joinEvents(text)) : undefined
    if (!reply) return undefined
    this.sent += 1
    const learned = this.#dialect.answered(sent, asked)
    if (learned) this.#options.onLog?.(`${this.settings.model} takes ${learned}`)
    const leftOut = [...Dialect.leftOut(asked, sent), ...uncounted]
    if (this.settings.budget === null || reply.promptTokens > 0)
      return leftOut.length > 0 ? { ...reply, leftOut } : reply
    throw new EndpointError(`${printable(this.settings.url)} does not say how many tokens it used`, {
      hint: 'A budget cannot be kept without; leave it out.',
    })
  }

  /** Waits for the common pause and for this request's place in the minute. */
  async #turn(): Promise<void> {
    const { requestsPerMinute } = this.settings
    const signal = this.#stopped
    if (requestsPerMinute > 0) {
      const start = Math.max(Date.now(), this.#nextStart)
      this.#nextStart = start + 60_000 / requestsPerMinute
      await sleep(start - Date.now(), undefined, { signal })
    }
    for (let wait = this.#pausedUntil - Date.now(); wait > 0; wait = this.#pausedUntil - Date.now()) {
      await sleep(wait, undefined, { signal })
    }
  }

  #refusal(answer: Answer, what: string): Error {
    const { status, said } = answer
    // A proxy's page, an answer that was cut off, an error without a number: all may be gone the next time.
    if (status === 200) return new TransientError(`${what} answered no completion${said}`, {}, { hint: wrongAddress })
    if (status === 429 && unpaid.test(said))
      return new EndpointError(`${what}: ${said.slice(2)}`, { detail: { status }, hint: hints[402] })
    const busy = passingStatus(answer, what, said)
    if (busy) {
      // Whoever asks for a pause asks all requests, not only this one.
      this.#pausedUntil = Math.max(this.#pausedUntil, Date.now() + busy.retryAfterMs)
      return busy
    }
    const message = `${what}: the server answered ${status}${said}`
    const options = { detail: { status }, hint: hints[status] ?? wrongAddress }
    // Too long, or not to its taste: the next one may be.
    return [400, 413, 422].includes(status) ? new RequestError(message, options) : new EndpointError(message, options)
  }
}
