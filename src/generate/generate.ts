/** Answers of a model: questions with images in, texts out, in batches. */
import { decodeImage } from '../data/images.js'
import type { Response } from '../data/records.js'
import type { CallOptions, Engine, ImageInput, PromptInput } from '../engine/engine.js'
import { ImageCache } from '../engine/image-cache.js'
import type { Chat } from '../text/chat.js'

export interface Question {
  id: string
  prompt: string
  /** Image files, in prompt order. */
  images: string[]
}

export interface GenerateSettings {
  maxNewTokens: number
  /** 0 = greedy. */
  temperature: number
  topP: number
  /** 0 = off. */
  topK: number
  /** Questions decoded together. */
  batchSize: number
  /** Question k is sampled with seed + k, whatever the batch. */
  seed: number
  /** Answer with the adapter (true) or as the reference model. */
  adapter: boolean
}

export const defaultGenerateSettings: GenerateSettings = {
  maxNewTokens: 256,
  temperature: 0,
  topP: 1,
  topK: 0,
  batchSize: 8,
  seed: 42,
  adapter: true,
}

export interface AnswerOptions extends CallOptions {
  /** Text as it comes; only sensible with one question at a time. */
  onText?: (text: string) => void
}

/** Answers questions in order, one batch in memory at a time. */
export async function* answer(
  engine: Engine,
  chat: Chat,
  questions: AsyncIterable<Question> | Iterable<Question>,
  settings: GenerateSettings = defaultGenerateSettings,
  options: AnswerOptions = {},
): AsyncGenerator<Response> {
  const images = new ImageCache(engine, 1)
  let done = 0
  for await (const batch of batches(questions, settings.batchSize)) {
    yield* await answerBatch(engine, chat, images, batch, { ...settings, seed: settings.seed + done }, options)
    done += batch.length
  }
  await images.clear()
}

async function answerBatch(
  engine: Engine,
  chat: Chat,
  cache: ImageCache,
  batch: Question[],
  settings: GenerateSettings,
  options: AnswerOptions,
): Promise<Response[]> {
  const pictures = await Promise.all(batch.map((question) => Promise.all(question.images.map(decodeImage))))
  await cache.ensure(
    pictures.flat().map((image) => ({ id: image.id, decode: async () => image })),
    options,
  )
  const prompts = batch.map((question, index) =>
    toPrompt(engine, chat, question, pictures[index], settings.seed + index),
  )
  const stream = chat.tokenizer.decoder({ skipSpecial: true })
  const { onText } = options
  const { maxNewTokens, temperature, topP, topK, batchSize, adapter } = settings
  const generations = await engine.generate(
    prompts,
    { maxNewTokens, temperature, topP, topK, batchSize, adapter, stopTokens: stopTokens(engine, chat) },
    { signal: options.signal, onToken: onText && ((_prompt, token) => onText(stream.push(token))) },
  )
  onText?.(stream.end())
  return generations.map(({ tokens, finish }, index) => ({
    sampleId: batch[index].id,
    model: engine.spec.model,
    adapter: adapter ? engine.spec.adapter : null,
    prompt: batch[index].prompt,
    text: chat.tokenizer.decode(tokens, { skipSpecial: true }),
    tokens: Array.from(tokens),
    sampling: { maxNewTokens, temperature, topP, topK, finish },
    seed: prompts[index].seed,
  }))
}

function toPrompt(engine: Engine, chat: Chat, question: Question, images: ImageInput[], seed: number): PromptInput {
  const tokens = images.map((image) => engine.imageTokens(image.width, image.height))
  return { ids: chat.promptIds(question.prompt, tokens), images: images.map((image) => image.id), seed }
}

function stopTokens(engine: Engine, chat: Chat): number[] {
  return [...new Set([chat.endTokenId, ...engine.info.eosTokenIds])]
}

async function* batches<T>(items: AsyncIterable<T> | Iterable<T>, size: number): AsyncGenerator<T[]> {
  let batch: T[] = []
  for await (const item of items) {
    batch.push(item)
    if (batch.length < size) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}
