/** Answers of the engine's own batched generation. */
import { resolve } from 'node:path'
import { markFolder, sha256 } from '../data/files.js'
import { decodeImage, decodeReferenced } from '../data/images.js'
import { refuseMerged } from '../data/merged.js'
import {
  type DType,
  type Engine,
  type EngineSpec,
  type FeatureStore,
  type NativeModule,
  openEngine,
} from '../engine/engine.js'
import { isOfRecord } from '../errors.js'
import { answer, type Question } from '../generate/generate.js'
import { checkOptions } from '../options.js'
import { Chat, refuseBeyondContext } from '../text/chat.js'
import { type Answerer, type Failure, failed } from './answerer.js'
import type { Asked } from './questions.js'
import { type AnswerSettings, sampleSettings } from './settings.js'

/** Which model answers, and on what. */
export interface EngineAnswererOptions {
  model: string
  /** PEFT folder; null = the model as it is. */
  adapter: string | null
  dtype: DType
  device?: EngineSpec['device']
  threads?: number
  packWeights?: EngineSpec['packWeights']
  featureStore?: FeatureStore | null
  /** Questions decoded together; no answer depends on it. */
  batchSize: number
  /** Ask what is longer than the model's context. */
  beyondContext?: boolean
  /** What image paths are relative to. */
  imageRoot: string
  /** An open one to ask: `model`, and the adapter that `adapter` names or one that is then left out. It stays open. */
  engine?: Engine
  /** Another implementation of the addon's interface. */
  native?: NativeModule
}

const engineKeys: Record<keyof EngineAnswererOptions, true> = {
  model: true,
  adapter: true,
  dtype: true,
  device: true,
  threads: true,
  packWeights: true,
  featureStore: true,
  batchSize: true,
  beyondContext: true,
  imageRoot: true,
  engine: true,
  native: true,
}

/** Tells weights from others that came to lie at the same place, so that their answers are never taken for one another's. */
export async function markOf(model: string, adapter: string | null): Promise<string> {
  const marks = [await markFolder(model), ...(adapter === null ? [] : [await markFolder(adapter)])]
  return sha256(marks.join()).slice(0, 16)
}

/** Answers of an engine; unless it is given, it is opened for the first question and closed after the last. */
export async function engineAnswerer(options: EngineAnswererOptions, settings: AnswerSettings): Promise<Answerer> {
  checkOptions('engineAnswerer', options, engineKeys)
  checkOptions('engineAnswerer, settings', settings, sampleSettings.shape)
  const { model, adapter, dtype, device = 'cpu', threads = 0, packWeights = 'auto', featureStore = null } = options
  const { batchSize, beyondContext, imageRoot, native } = options
  if (adapter !== null) await refuseMerged(model, adapter)
  const spec = { model, adapter, device, dtype, threads, packWeights, featureStore }
  const open = (signal?: AbortSignal) => openEngine(spec, { signal, native })
  const { maxNewTokens, temperature, topP, topK, stop, seed } = settings
  const sampling = {
    maxNewTokens,
    temperature,
    topP,
    topK,
    ...(stop.length > 0 && { stop }),
    dtype,
    weights: await markOf(model, adapter),
  }
  return {
    about: { model, adapter, sampling },
    async *answer(asked, signal) {
      await using own = options.engine ? undefined : await open(signal)
      const engine = options.engine ?? (own as Engine)
      const chat = await Chat.load(model, engine.info)
      // What came in and is not out yet: null for a question that the engine has, else why it never got there.
      const pending: (Failure | null)[] = []
      const sound = soundQuestions(asked, { engine, chat, imageRoot, beyondContext }, pending)
      const decoding = { maxNewTokens, temperature, topP, topK, stop, batchSize, beyondContext }
      const generation = { ...decoding, seed, adapter: adapter !== null }
      for await (const response of answer(engine, chat, sound, generation, { signal })) {
        yield* failuresAtFront(pending)
        pending.shift()
        yield { ...response, model, adapter, sampling: { ...sampling, finish: response.sampling.finish } }
      }
      yield* failuresAtFront(pending)
    },
  }
}

function* failuresAtFront(pending: (Failure | null)[]): Generator<Failure> {
  for (let first = pending[0]; first; first = pending[0]) {
    pending.shift()
    yield first
  }
}

interface Place {
  engine: Engine
  chat: Chat
  imageRoot: string
  beyondContext?: boolean
}

/** Passes on the questions that can be asked: the engine answers many at once, and one bad image must not end them all. */
async function* soundQuestions(
  asked: AsyncIterable<Asked>,
  place: Place,
  pending: (Failure | null)[],
): AsyncGenerator<Question> {
  const measure = imageMeasure(place)
  for await (const ask of asked) {
    try {
      const tokens: number[] = []
      for (const ref of ask.images) tokens.push(await measure(ref))
      const { length } = place.chat.promptIds(ask.prompt, tokens)
      if (!place.beyondContext) refuseBeyondContext(length + 1, place.chat)
    } catch (error) {
      if (!isOfRecord(error)) throw error
      pending.push(failed(ask, error))
      continue
    }
    pending.push(null)
    const images = ask.images.map(({ path }) => resolve(place.imageRoot, path))
    yield { id: ask.sampleId, prompt: ask.prompt, images, seed: ask.seed }
  }
}

/** Images whose check is remembered: questions about one image follow each other. */
const remembered = 64

/** Decodes an image, holds it against its reference and says how many tokens it takes. */
function imageMeasure({ engine, imageRoot }: Place): (ref: Asked['images'][number]) => Promise<number> {
  const known = new Map<string, number>()
  return async (ref) => {
    const key = `${ref.sha256} ${ref.path}`
    const tokens = known.get(key)
    if (tokens !== undefined) return tokens
    const read = 'width' in ref ? decodeReferenced(ref, imageRoot) : decodeImage(resolve(imageRoot, ref.path))
    const { width, height } = await read
    if (known.size >= remembered) known.clear()
    known.set(key, engine.imageTokens(width, height))
    return known.get(key) as number
  }
}
