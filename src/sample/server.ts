/** Answers of an OpenAI-compatible server, several requests at a time. */
// A queue of promises with a bound on how many run.
import pLimit from 'p-limit'
import type { z } from 'zod'
import { describeImage, portableImage } from '../data/images.js'
import { imagePart, openEndpoint, type Part, RequestError } from '../endpoint/index.js'
import { parseEndpoint } from '../endpoint/settings.js'
import { isOfRecord } from '../errors.js'
import { printable } from '../http/service.js'
import { checkOptions } from '../options.js'
import { type Answerer, failed, type Outcome } from './answerer.js'
import type { Asked } from './questions.js'
import { type SampleSettings, sampleSettings, type serverSettings } from './settings.js'

/** Which server answers. */
export interface ServerAnswererOptions {
  endpoint: z.input<typeof serverSettings>
  imageRoot: string
  /** Folder of replies that were paid for: none is asked for twice, and a budget holds over all runs. */
  cache?: string
  onLog?: (line: string) => void
}

/** Questions taken in for each that runs, so that one slow answer does not leave the server idle. */
const lookAhead = 4

/**
 * Answers of a server, in the questions' order.
 * @throws {ConfigError} when a setting of the endpoint is wrong.
 */
export function serverAnswerer(options: ServerAnswererOptions, settings: SampleSettings): Answerer {
  checkOptions('serverAnswerer', options, { endpoint: true, imageRoot: true, cache: true, onLog: true })
  checkOptions('serverAnswerer, settings', settings, sampleSettings.shape)
  const { imageRoot, cache, onLog } = options
  const { maxNewTokens, temperature, topP, topK, stop } = settings
  const server = parseEndpoint({ ...options.endpoint, maxTokens: maxNewTokens })
  const { url, model, concurrency } = server
  const sampling = { maxNewTokens, temperature, topP, topK, ...(stop.length > 0 && { stop }), endpoint: printable(url) }
  return {
    about: { model, adapter: null, sampling },
    oneClient: true,
    async *answer(asked, signal) {
      // Whoever stops reading ends the requests under way; a stop that was asked for waits for them.
      const left = new AbortController()
      const endpoint = await openEndpoint(server, { cache, signal: left.signal, stop: signal, onLog })
      const ask = async (question: Asked): Promise<Outcome> => {
        const { sampleId, prompt, seed } = question
        try {
          const content: Part[] = []
          const shown: string[] = []
          for (const image of question.images) {
            const ref = 'width' in image ? image : await describeImage(image.path, imageRoot)
            shown.push(ref.sha256)
            content.push(imagePart(await portableImage(ref, imageRoot)))
          }
          content.push({ type: 'text', text: prompt })
          const messages = [{ role: 'user' as const, content }]
          const reply = await endpoint.ask({ messages, temperature, topP, topK, seed, stop })
          const from = { sampleId, model, adapter: null, prompt, images: shown }
          // Chat completions do not say their tokens.
          return {
            ...from,
            text: reply.content,
            tokens: [],
            sampling: { ...sampling, finish: reply.finishReason, ...(reply.leftOut && { leftOut: reply.leftOut }) },
            seed,
          }
        } catch (error) {
          if (error instanceof RequestError || isOfRecord(error)) return failed(question, error)
          throw error
        }
      }
      try {
        yield* inOrder(asked, concurrency, ask)
      } finally {
        await endpoint.settle()
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
