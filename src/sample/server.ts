/** Answers of an OpenAI-compatible server, several requests at a time. */
// A queue of promises with a bound on how many run.
import pLimit from 'p-limit'
import { portableImage } from '../data/images.js'
import type { Response } from '../data/records.js'
import { ChatEndpoint, type EndpointOptions } from '../endpoint/chat.js'
import type { EndpointSettings } from '../endpoint/settings.js'
import { ConfigError, EndpointError, expected } from '../errors.js'
import { type Answerer, failed, isOfRecord, type Outcome } from './answerer.js'
import type { Asked } from './questions.js'
import type { SampleSettings } from './settings.js'

export interface ServerAnswererOptions extends Omit<EndpointOptions, 'signal'> {
  /** Requests at a time. */
  concurrency: number
  imageRoot: string
}

/** Questions taken in for each that runs, so that one slow answer does not leave the server idle. */
const lookAhead = 4

/**
 * The options that settings stand for, with the key from the environment.
 * @throws {ConfigError} when its variable holds none.
 */
export function endpointOptions(
  {
    url,
    model,
    keyEnv,
    concurrency,
    timeout,
    retries,
  }: Pick<EndpointSettings, 'url' | 'model' | 'keyEnv' | 'concurrency' | 'timeout' | 'retries'>,
  env: NodeJS.ProcessEnv = process.env,
): Omit<ServerAnswererOptions, 'imageRoot'> {
  const key = keyEnv === null ? undefined : env[keyEnv]?.trim()
  if (keyEnv !== null && !key) {
    throw new ConfigError(`The variable ${keyEnv} holds no key`, { hint: `Set ${keyEnv}, or name no variable.` })
  }
  return { url, model, key, concurrency, timeoutMs: timeout * 1000, retry: { retries, delayMs: 1000 } }
}

/**
 * Answers of a server, in the questions' order.
 * @throws {ArgumentError} when `concurrency` is no positive integer.
 */
export function serverAnswerer(options: ServerAnswererOptions, settings: SampleSettings): Answerer {
  const { url, model, concurrency, imageRoot } = options
  const { maxNewTokens, temperature, topP, topK, stop } = settings
  if (!Number.isInteger(concurrency) || concurrency < 1)
    throw expected('a positive integer', 'concurrency', concurrency)
  const sampling = { maxNewTokens, temperature, topP, topK, ...(stop.length > 0 && { stop }), endpoint: url }
  return {
    about: { model, adapter: null, sampling },
    async *answer(asked, signal) {
      // Whoever stops reading ends the requests under way.
      const left = new AbortController()
      const both = signal ? AbortSignal.any([signal, left.signal]) : left.signal
      const endpoint = new ChatEndpoint({ ...options, signal: both })
      const ask = async (question: Asked): Promise<Outcome> => {
        const { sampleId, prompt, seed } = question
        try {
          const images: { mime: string; bytes: Uint8Array }[] = []
          for (const ref of question.images) images.push(await portableImage(ref, imageRoot))
          const request = { prompt, images, maxTokens: maxNewTokens, temperature, topP, topK, seed, stop }
          const { text, finish } = await endpoint.complete(request)
          const response: Response = {
            sampleId,
            model,
            adapter: null,
            prompt,
            text,
            // Chat completions do not say their tokens.
            tokens: [],
            sampling: { ...sampling, finish },
            seed,
          }
          return response
        } catch (error) {
          const ofRequest = error instanceof EndpointError && error.detail.scope === 'request'
          if (ofRequest || isOfRecord(error)) return failed(question, error)
          throw error
        }
      }
      try {
        yield* inOrder(asked, concurrency, ask)
      } finally {
        left.abort()
      }
    },
  }
}

/** Runs `work` on several items at a time and gives the results in the items' order. */
async function* inOrder<T, R>(
  items: AsyncIterable<T>,
  concurrency: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const limit = pLimit(concurrency)
  const running: Promise<R>[] = []
  try {
    for await (const item of items) {
      const result = limit(work, item)
      // A failure is seen when its turn comes.
      result.catch(() => {})
      running.push(result)
      if (running.length >= concurrency * lookAhead) yield await (running.shift() as Promise<R>)
    }
    for (const result of running) yield await result
  } finally {
    limit.clearQueue()
  }
}
