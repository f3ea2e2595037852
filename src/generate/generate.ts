/** Answers of a model: questions with images in, texts out in their order, many under way at a time. */
import { decodeImage } from '../data/images.js'
import type { Response } from '../data/records.js'
import type {
  CallOptions,
  Engine,
  Generation,
  ImageFeatures,
  ImageInput,
  PromptInput,
  SamplingSpec,
} from '../engine/engine.js'
import { ImageCache } from '../engine/image-cache.js'
import { expected } from '../errors.js'
import { checkOptions } from '../options.js'
import { type Chat, refuseBeyondContext } from '../text/chat.js'
import { StopCutter } from '../text/stop.js'
import { generateSettings } from './settings.js'

/** What a model is asked: a text, and the image files that go with it. */
export interface Question {
  id: string
  prompt: string
  /** Image files, in prompt order. */
  images: string[]
  /** Samples this answer, whatever its place; without it the place decides. */
  seed?: number
}

/** How `answer` generates: sampling as `SamplingSpec` has it, the seed, and texts to stop at. */
export interface GenerateSettings extends Omit<SamplingSpec, 'stopTokens' | 'stopStrings'> {
  /** Question k is sampled with seed + k, whatever the batch, unless it has a seed of its own. */
  seed: number
  /** Texts that end an answer; it is cut before the first. Its tokens keep those that spelled the text. */
  stop?: readonly string[]
  /** Ask what is longer than the model's context. */
  beyondContext?: boolean
}

/** Greedy, at most 256 tokens, with the adapter, 8 questions together. */
export const defaultGenerateSettings: GenerateSettings = {
  ...generateSettings
    .pick({ maxNewTokens: true, temperature: true, topP: true, topK: true, batchSize: true, seed: true })
    .parse({}),
  adapter: true,
}

/** A signal, and where text goes as it comes. */
export interface AnswerOptions extends CallOptions {
  /** Text as it comes, with the place of its question among all; several answers come at a time. */
  onText?: (question: number, text: string) => void
}

/** Questions given to the engine at once, in batches: within a window the batch stays full, at its end it runs empty. */
const windowBatches = 8
/** Distinct images of a window, in batches of questions: the engine keeps their features meanwhile. */
const imageBatches = 2

/**
 * Answers questions in order, each as soon as it and those before it have ended; one window is in memory at a time. A
 * question that cannot be asked ends it: `engineAnswerer` of `fire-train/sample` goes on.
 */
export async function* answer(
  engine: Engine,
  chat: Chat,
  questions: AsyncIterable<Question> | Iterable<Question>,
  settings: GenerateSettings = defaultGenerateSettings,
  options: AnswerOptions = {},
): AsyncGenerator<Response> {
  checkOptions('answer, settings', settings, { ...defaultGenerateSettings, stop: true, beyondContext: true })
  checkOptions('answer', options, { signal: true, onText: true })
  if (!(settings.batchSize >= 1)) throw expected('a positive integer', 'batchSize', settings.batchSize)
  await using cache = new ImageCache(engine, imageBatches * settings.batchSize)
  const hashes = new Map<string, string>()
  const decode = async (path: string): Promise<ImageInput> => {
    const image = await decodeImage(path)
    hashes.set(path, image.id)
    return image
  }
  let first = 0
  for await (const window of windows(questions, settings.batchSize)) {
    const paths = [...new Set(window.flatMap(({ images }) => images))]
    const sources = paths.map((path) => ({ id: path, path, decode: () => decode(path) }))
    const features = await cache.hold(sources, { signal: options.signal })
    const images = new Map(features.map((each, index) => [paths[index], each]))
    yield* answerWindow(engine, chat, { questions: window, first, images, hashes }, settings, options)
    first += window.length
  }
}

interface Window {
  questions: Question[]
  /** The place of its first question among all. */
  first: number
  /** Of all its questions, by path. */
  images: ReadonlyMap<string, ImageFeatures>
  /** SHA-256 of what was decoded, by path. */
  hashes: ReadonlyMap<string, string>
}

async function* answerWindow(
  engine: Engine,
  chat: Chat,
  { questions, first, images, hashes }: Window,
  settings: GenerateSettings,
  options: AnswerOptions,
): AsyncGenerator<Response> {
  const { maxNewTokens, temperature, topP, topK, batchSize, adapter, stop = [] } = settings
  const prompts = questions.map((question, index): PromptInput => {
    const shown = question.images.map((path) => images.get(path) as ImageFeatures)
    const ids = chat.promptIds(
      question.prompt,
      shown.map(({ tokens }) => tokens),
    )
    if (!settings.beyondContext) refuseBeyondContext(ids.length + 1, chat)
    return { ids, images: shown.map(({ id }) => id), seed: question.seed ?? settings.seed + first + index }
  })
  const stopStrings =
    stop.length > 0 ? { strings: [...stop], ...chat.tokenizer.byteTable(engine.info.vocabSize) } : null
  const sampling = { maxNewTokens, temperature, topP, topK, batchSize, adapter, stopStrings }
  const streams = options.onText && questions.map(() => new AnswerText(chat, stop))
  const emit = (index: number, text = ''): void => {
    if (text !== '') options.onText?.(first + index, text)
  }
  const ended = questions.map(() => new Deferred<Generation>())
  // Whoever stops reading stops the engine.
  const left = new AbortController()
  const call = engine.generate(
    prompts,
    { ...sampling, stopTokens: stopTokens(engine, chat) },
    {
      signal: AbortSignal.any([left.signal, ...(options.signal ? [options.signal] : [])]),
      onToken: streams && ((index, token) => emit(index, streams[index].push(token))),
      onEnd(index, generation) {
        emit(index, streams?.[index].end())
        ended[index].resolve(generation)
      },
    },
  )
  // A failure is seen by whoever waits for the next answer, which may be later.
  call.catch(() => {})
  try {
    for (const [index, question] of questions.entries()) {
      const { tokens, finish } = await Promise.race([ended[index].promise, call.then((all) => all[index])])
      yield {
        sampleId: question.id,
        model: engine.spec.model,
        adapter: adapter ? engine.spec.adapter : null,
        prompt: question.prompt,
        images: question.images.map((path) => hashes.get(path) as string),
        text: new AnswerText(chat, stop).whole(tokens),
        tokens: Array.from(tokens),
        sampling: { maxNewTokens, temperature, topP, topK, ...(stop.length > 0 ? { stop } : {}), finish },
        seed: prompts[index].seed,
      }
    }
  } finally {
    left.abort()
    await call.catch(() => {})
  }
}

/** The text of one answer, token by token: special tokens left out, cut before a stop string. */
class AnswerText {
  readonly #decoder: { push(id: number): string; end(): string }
  readonly #cutter: StopCutter

  constructor(chat: Chat, stop: readonly string[]) {
    this.#decoder = chat.tokenizer.decoder({ skipSpecial: true })
    this.#cutter = new StopCutter(stop)
  }

  push(token: number): string {
    return this.#cutter.push(this.#decoder.push(token))
  }

  end(): string {
    return this.#cutter.push(this.#decoder.end()) + this.#cutter.end()
  }

  whole(tokens: Iterable<number>): string {
    let text = ''
    for (const token of tokens) text += this.push(token)
    return text + this.end()
  }
}

class Deferred<T> {
  readonly promise: Promise<T>
  resolve!: (value: T) => void

  constructor() {
    this.promise = new Promise((resolve) => {
      this.resolve = resolve
    })
  }
}

function stopTokens(engine: Engine, chat: Chat): number[] {
  return [...new Set([chat.endTokenId, ...engine.info.eosTokenIds])]
}

async function* windows(
  questions: AsyncIterable<Question> | Iterable<Question>,
  batchSize: number,
): AsyncGenerator<Question[]> {
  let window: Question[] = []
  let images = new Set<string>()
  for await (const question of questions) {
    const together = new Set([...images, ...question.images])
    const full = window.length >= windowBatches * batchSize || together.size > imageBatches * batchSize
    if (full && window.length > 0) {
      yield window
      window = []
    }
    images = window.length > 0 ? together : new Set(question.images)
    window.push(question)
  }
  if (window.length > 0) yield window
}
