/**
 * The typed face of the native engine: what embedders, the trainer and the stages call.
 *
 * All methods are asynchronous and run one after another, in call order, on a thread of the engine's own; the event loop
 * stays free. A method that takes an `AbortSignal` stops between layers or micro-batches, leaves the engine usable and
 * rejects with an `AbortedError` whose cause is the signal's reason. Wrong arguments reject with `ERR_FIRE_INVALID_ARGUMENT` before anything is computed.
 */
import { AbortedError, abortedBy, ClosedError, expected, FireError, throwIfAborted } from '../errors.js'
import { checkOptions } from '../options.js'
import type { GroupSpec } from './group.js'
import { loadNative } from './load.js'
import type {
  AdamWSpec,
  AttentionProbe,
  CancelToken,
  EngineSpec,
  FeatureStore,
  Generation,
  ImageFeatures,
  ImageInput,
  ImageView,
  LoraSpec,
  MergeSpec,
  MergeStats,
  ModelInfo,
  NativeEngine,
  NativeModule,
  PairInput,
  PlanStats,
  PreparedImage,
  PromptInput,
  SamplingSpec,
  SequenceInput,
  StepOptions,
  StepStats,
  UpdateStats,
} from './native.js'
import { completeObjective, type ObjectiveSpec } from './objectives.js'
import { refuseUnfit } from './unfit-adapter.js'
import {
  checkArray,
  checkEncodable,
  checkExtent,
  checkImage,
  checkImages,
  checkMerge,
  checkObjective,
  checkOptimizer,
  checkPairs,
  checkPrompts,
  checkSampling,
  checkSequences,
  checkSignal,
  checkSpec,
  checkStep,
} from './validate.js'

export * from './device.js'
export type * from './group.js'
export type * from './machine.js'
export type * from './native.js'
export * from './objectives.js'
export { mostCoefficient, mostLoraAlpha } from './validate.js'

/** What every call of an engine takes. An aborted call rejects with an `AbortedError`. */
export interface CallOptions {
  signal?: AbortSignal
}

/** What is planned, or reserved for. */
export interface PlanOptions extends CallOptions {
  /** `false`: `evaluate` instead of `accumulate` and `update`. */
  training?: boolean
}

/** Options of `openEngine` that do not describe the engine itself. */
export interface OpenOptions extends CallOptions {
  /** Another implementation of the addon's interface, for instance an in-memory one in tests. */
  native?: NativeModule
}

/** Callbacks of `Engine.generate`, called on the JavaScript thread while it runs. */
export interface GenerateOptions extends CallOptions {
  /** Called for each new token, in the order produced; `prompt` indexes the prompts of this call. */
  onToken?: (prompt: number, token: number) => void
  /** Called once for each prompt as it ends, in the order in which they end. */
  onEnd?: (prompt: number, generation: Generation) => void
}

/** PEFT's names and this method's published values, except that rank-stabilised scaling is off by default. */
export const defaultLora: LoraSpec = {
  rank: 128,
  alpha: 256,
  dropout: 0.05,
  rslora: false,
  targets: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
  seed: 42,
}

const defaultSpec = (): Omit<EngineSpec, 'model'> => ({
  device: 'cpu',
  dtype: 'f32',
  threads: 0,
  gemm: 'auto',
  packWeights: 'auto',
  freeBytes: process.availableMemory(),
  lora: null,
  adapter: null,
  referenceAdapter: null,
  checkpointing: false,
  referenceCacheBytes: 256 * 2 ** 20,
  featureStore: null,
  group: null,
  planOnly: false,
})

const defaultSampling: Omit<SamplingSpec, 'stopTokens'> = {
  maxNewTokens: 256,
  temperature: 0,
  topP: 1,
  topK: 0,
  stopStrings: null,
  batchSize: 16,
  adapter: true,
}

const adamwKeys: Record<keyof AdamWSpec, true> = {
  lr: true,
  beta1: true,
  beta2: true,
  eps: true,
  weightDecay: true,
  maxGradNorm: true,
}

const storeKeys: Record<keyof FeatureStore, true> = { folder: true, key: true, maxBytes: true }
const groupKeys: Record<keyof GroupSpec, true> = { transport: true, rank: true, size: true, id: true }

const callOptions: Record<keyof CallOptions, true> = { signal: true }
const planOptions: Record<keyof PlanOptions, true> = { ...callOptions, training: true }
const openOptions: Record<keyof OpenOptions, true> = { ...callOptions, native: true }

/** Everything but `model` has a default: f32 on the CPU, all threads, no adapter. */
export type EngineOptions = Partial<EngineSpec> & Pick<EngineSpec, 'model'>

/**
 * Opens a checkpoint folder in Hugging Face layout. Weights are mapped, not copied, but for `packWeights`.
 * @throws {FileError} when a file of the folder cannot be read, {UnsupportedError} when its configuration or a tensor
 *   is of a kind this engine does not implement, {CheckpointError} when tensors are missing, truncated or misshapen, or
 *   training found that the adapter is not to be used, {RankError} when the ranks of `group` do not come together.
 * @throws {NativeBindingError} when the addon is missing.
 */
export async function openEngine(options: EngineOptions, open: OpenOptions = {}): Promise<Engine> {
  const defaults = defaultSpec()
  checkOptions('openEngine', options, { ...defaults, model: true })
  checkOptions('openEngine, 2nd argument', open, openOptions)
  const spec: EngineSpec = { ...defaults, ...options }
  if (spec.lora) checkOptions('openEngine, lora', spec.lora, defaultLora)
  if (spec.featureStore) checkOptions('openEngine, featureStore', spec.featureStore, storeKeys)
  if (spec.group) checkOptions('openEngine, group', spec.group, groupKeys)
  checkSpec(spec)
  throwIfAborted(open.signal)
  for (const adapter of [spec.adapter, spec.referenceAdapter]) if (adapter !== null) await refuseUnfit(adapter)
  // NCCL's other algorithms need not add up in one order each time.
  if (spec.group?.transport === 'nccl') process.env.NCCL_ALGO ??= 'Ring'
  const native = open.native ?? loadNative()
  const engine = await cancellable(native, open.signal, (cancel) => native.openEngine(spec, cancel))
  return new Engine(native, engine, spec)
}

/**
 * W + scale * B A for every adapted W, summed in float32 and rounded once to the type W is stored in; every other tensor
 * keeps its bytes. Weights only: `mergeAdapter` makes a whole model folder.
 * @throws {CheckpointError} when adapter and model do not fit together, or training found that the adapter is not to be used.
 */
export async function mergeWeights(spec: MergeSpec, options: OpenOptions = {}): Promise<MergeStats> {
  checkMerge(spec)
  checkOptions('mergeWeights, 2nd argument', options, openOptions)
  await refuseUnfit(spec.adapter)
  const native = options.native ?? loadNative()
  return cancellable(native, options.signal, (cancel) => native.mergeAdapter(spec, cancel))
}

const unclosed = new FinalizationRegistry<string>((model) => {
  process.emitWarning(`An engine (${model}) was collected without close()`, {
    code: 'FIRE_UNCLOSED_ENGINE',
    detail: 'Call `await engine.close()` or declare it with `await using`.',
  })
})

/** An open model with an optional LoRA adapter, its gradients and its AdamW state. Made by `openEngine`. */
export class Engine implements AsyncDisposable {
  /** Of the model as it was opened. */
  readonly info: ModelInfo
  /** The options it was opened with, defaults filled in. */
  readonly spec: Readonly<EngineSpec>
  readonly #native: NativeModule
  readonly #engine: NativeEngine
  #closing: Promise<void> | undefined

  constructor(native: NativeModule, engine: NativeEngine, spec: EngineSpec) {
    this.#native = native
    this.#engine = engine
    this.info = engine.info
    this.spec = spec
    unclosed.register(this, spec.model, this)
  }

  /** Placeholder tokens that an image of `width` x `height` pixels takes in a prompt. Pure arithmetic, synchronous. */
  imageTokens(width: number, height: number): number {
    checkExtent(width, 'width')
    checkExtent(height, 'height')
    return this.#open().imageTokens(width, height)
  }

  /**
   * What the vision tower is shown of an image: resampled, padded and cropped exactly as its family does it, not yet
   * normalised. An engine opened with `planOnly` can do it.
   */
  async viewImage(image: ImageInput): Promise<ImageView> {
    checkImage(image)
    return this.#call(undefined, (engine) => engine.viewImage(image))
  }

  /**
   * What `encodeImages` does on the host, done ahead: resampling, padding and cropping, while the engine is at work.
   * @throws {UnsupportedError} for an image that the model's family refuses.
   */
  async prepareImages(images: ImageInput[], options: CallOptions = {}): Promise<PreparedImage[]> {
    checkOptions('Engine.prepareImages', options, callOptions)
    checkImages(images)
    return this.#call(options.signal, (engine, cancel) => engine.prepareImages(images, cancel))
  }

  /**
   * Runs the frozen vision tower once per image, over several at a time, and keeps their features under `image.id` until
   * `releaseImages`. Ids already held are not encoded again. On an error none of these images is held.
   * @throws {ArgumentError} for an image that an engine of another model prepared.
   */
  async encodeImages(images: (ImageInput | PreparedImage)[], options: CallOptions = {}): Promise<ImageFeatures[]> {
    checkOptions('Engine.encodeImages', options, callOptions)
    checkEncodable(images)
    return this.#call(options.signal, (engine, cancel) => engine.encodeImages(images, cancel))
  }

  /** Forgets the features of these images; unknown ids are ignored. */
  async releaseImages(ids: string[]): Promise<void> {
    return this.#call(undefined, (engine) => engine.releaseImages(ids))
  }

  /** Bytes and tokens that `accumulate` of this batch would take; nothing is computed. */
  async plan(
    pairs: PairInput[],
    objective: ObjectiveSpec,
    step: StepOptions,
    options: PlanOptions = {},
  ): Promise<PlanStats> {
    checkPairs(pairs, objective)
    checkStep(step)
    checkOptions('Engine.plan', options, planOptions)
    const { training = true, signal } = options
    return this.#call(signal, (engine) => engine.plan(...completed(pairs, objective, step), training))
  }

  /**
   * On a GPU: takes the memory that training on these micro-batches needs, gradients and moments included, before the first
   * step, so that no step stops the device to allocate. A batch that turns out larger takes more when it comes. On a CPU
   * memory is taken as it is used.
   * @throws {OutOfMemoryError} when the GPU has not that much.
   */
  async reserve(
    batches: PairInput[][],
    objective: ObjectiveSpec,
    step: StepOptions,
    options: PlanOptions = {},
  ): Promise<void> {
    checkArray(batches, 'batches')
    checkObjective(objective)
    for (const pairs of batches) checkPairs(pairs, objective)
    checkStep(step)
    checkOptions('Engine.reserve', options, planOptions)
    const { training = true, signal } = options
    const [, ...settings] = completed([], objective, step)
    const inputs = batches.map((pairs) => completed(pairs, objective, step)[0])
    return this.#call(signal, (engine, cancel) => engine.reserve(inputs, ...settings, training, cancel))
  }

  /**
   * The same for the features of images that are held together: `tokens` of the largest so many of a run, as `imageTokens`
   * gives them. Then no image stops the device.
   * @throws {OutOfMemoryError} when the GPU has not that much.
   */
  async reserveImages(tokens: number[]): Promise<void> {
    checkArray(tokens, 'tokens')
    for (const count of tokens)
      if (!Number.isInteger(count) || count < 1) throw expected('positive integers', 'tokens', count)
    return this.#call(undefined, (engine) => engine.reserveImages(tokens))
  }

  /**
   * Forward and backward of the objective (formulas: docs/objectives.md) over a micro-batch of pairs. Gradients of
   * `sum(loss) / step.normalizer` add up, in float32, until `update` or `zeroGrad`. An aborted call adds nothing; in
   * the middle of the backward pass it clears what had added up, and with `step.last` it ends the group.
   * @throws {NumericError} naming the pairs whose loss is not finite, {RankError} when the group was ended.
   */
  async accumulate(
    pairs: PairInput[],
    objective: ObjectiveSpec,
    step: StepOptions,
    options: CallOptions = {},
  ): Promise<StepStats> {
    checkPairs(pairs, objective)
    checkStep(step)
    checkOptions('Engine.accumulate', options, callOptions)
    return this.#call(options.signal, (engine, cancel) =>
      engine.accumulate(...completed(pairs, objective, step), cancel),
    )
  }

  /** The same numbers as `accumulate` without dropout and without gradients. */
  async evaluate(
    pairs: PairInput[],
    objective: ObjectiveSpec,
    step: StepOptions,
    options: CallOptions = {},
  ): Promise<StepStats> {
    checkPairs(pairs, objective)
    checkStep(step)
    checkOptions('Engine.evaluate', options, callOptions)
    return this.#call(options.signal, (engine, cancel) => engine.evaluate(...completed(pairs, objective, step), cancel))
  }

  /**
   * Clips the accumulated gradient to a global L2 norm, takes one AdamW step (decoupled decay) and clears it. In a group the
   * gradients of all ranks are added up before; every rank must call it once a step, whether it had pairs or not.
   * @throws {ArgumentError} for settings that have no meaning, for instance `lr` outside [0, 1] (docs/training.md).
   * @throws {NumericError} when the gradient is not finite (the adapter then stays as it was) or the updated adapter is
   *   not (it can then be neither saved nor used; `loadState` mends it).
   * @throws {RankError} when the group was ended; adapter and moments are then those of the last whole update.
   */
  async update(spec: AdamWSpec): Promise<UpdateStats> {
    checkOptions('Engine.update', spec, adamwKeys)
    checkOptimizer(spec)
    return this.#call(undefined, (engine) => engine.update(spec))
  }

  /**
   * At once, also while a call runs: `accumulate` and `update` of this engine's group that are under way or come later end
   * with a `RankError` that has this reason. It tells the other ranks nothing. Without a group nothing happens.
   */
  abortGroup(reason: string): void {
    if (typeof reason !== 'string') throw expected('a text', 'reason', reason)
    if (!this.#closing) this.#engine.abortGroup(reason)
  }

  /** Clears what `accumulate` added up since the last `update`. */
  async zeroGrad(): Promise<void> {
    return this.#call(undefined, (engine) => engine.zeroGrad())
  }

  /**
   * log p(ids[i + 1] | ids[..i], images), natural logarithm, float32 `[n - 1]` per sequence of n tokens; NaN where the
   * next token is an image placeholder outside the vocabulary.
   */
  async logprobs(
    sequences: SequenceInput[],
    options: CallOptions & { adapter?: boolean } = {},
  ): Promise<Float32Array[]> {
    checkSequences(sequences)
    checkOptions('Engine.logprobs', options, { ...callOptions, adapter: true })
    const adapter = options.adapter ?? true
    return this.#call(options.signal, (engine, cancel) => engine.logprobs(sequences, adapter, cancel))
  }

  /**
   * Continues each prompt with a KV cache. The text of a prompt depends on its own seed, not on the batch around it.
   * As prompts end others take their place, so give many at once; those about the same images compute them once.
   * Without settings: greedy, at most 256 tokens, until an end token of the checkpoint, 16 prompts together.
   */
  async generate(
    prompts: PromptInput[],
    sampling: Partial<SamplingSpec> = {},
    options: GenerateOptions = {},
  ): Promise<Generation[]> {
    checkPrompts(prompts)
    checkOptions('Engine.generate, sampling', sampling, { ...defaultSampling, stopTokens: true })
    checkOptions('Engine.generate', options, { ...callOptions, onToken: true, onEnd: true })
    const settings: SamplingSpec = { ...defaultSampling, stopTokens: this.info.eosTokenIds, ...sampling }
    checkSampling(settings)
    const { onToken = null, onEnd = null, signal } = options
    return this.#call(signal, (engine, cancel) => engine.generate(prompts, settings, onToken, onEnd, cancel))
  }

  /** Attention from each query position to the image tokens: `[layers, heads, tokens]` float32 per position. */
  async attention(
    sequence: SequenceInput,
    positions: number[],
    options: { adapter?: boolean } = {},
  ): Promise<AttentionProbe[]> {
    checkSequences([sequence])
    checkOptions('Engine.attention', options, { adapter: true })
    checkArray(positions, 'positions')
    for (const position of positions) {
      if (!Number.isInteger(position) || position < 0 || position >= sequence.ids.length) {
        throw expected(`an index below ${sequence.ids.length}`, 'positions', position)
      }
    }
    return this.#call(undefined, (engine) => engine.attention(sequence, positions, options.adapter ?? true))
  }

  /** Writes `adapter_config.json` and `adapter_model.safetensors` (PEFT layout, float32) into `directory`. */
  async saveAdapter(directory: string, baseModel = this.spec.model): Promise<void> {
    return this.#call(undefined, (engine) => engine.saveAdapter(directory, baseModel))
  }

  /** Writes adapter, AdamW moments and step, bit-exact. */
  async saveState(directory: string): Promise<void> {
    return this.#call(undefined, (engine) => engine.saveState(directory))
  }

  /**
   * Puts adapter, AdamW moments and step back to what `saveState` wrote. A state of
   * a build that counted training passes for its dropout is taken; the masks that it goes on with are those of this build.
   * @throws {CheckpointError} when the folder is incomplete or belongs to another adapter shape.
   */
  async loadState(directory: string): Promise<void> {
    return this.#call(undefined, (engine) => engine.loadState(directory))
  }

  /** Frees everything after the calls already queued. Calling it again gives the same promise. */
  async close(): Promise<void> {
    this.#closing ??= this.#engine.close()
    unclosed.unregister(this)
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #open(): NativeEngine {
    if (this.#closing) throw new ClosedError('The engine is closed')
    return this.#engine
  }

  async #call<T>(
    signal: AbortSignal | undefined,
    run: (engine: NativeEngine, cancel: CancelToken | null) => Promise<T>,
  ): Promise<T> {
    const engine = this.#open()
    return cancellable(this.#native, signal, (cancel) => run(engine, cancel))
  }
}

/** C++ has no defaults. */
function completed(
  pairs: PairInput[],
  objective: ObjectiveSpec,
  { normalizer, layout, chosenTokens = 0, last = false }: StepOptions,
): [Required<PairInput>[], Required<ObjectiveSpec>, Required<StepOptions>] {
  const whole = pairs.map((pair) => ({ ...pair, weight: pair.weight ?? 1, rejectedScore: pair.rejectedScore ?? 1 }))
  return [whole, completeObjective(objective), { normalizer, layout, chosenTokens, last }]
}

/**
 * Runs a native call under a signal. A native error is made on the engine's thread and has no useful stack: the stack of
 * the caller is put in its place.
 */
async function cancellable<T>(
  native: NativeModule,
  signal: AbortSignal | undefined,
  run: (cancel: CancelToken | null) => Promise<T>,
): Promise<T> {
  checkSignal(signal)
  throwIfAborted(signal)
  const callSite = new Error()
  const cancel = signal ? native.createCancelToken() : null
  const onAbort = (): void => cancel?.cancel()
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    return await run(cancel)
  } catch (error) {
    if (error instanceof AbortedError && signal?.aborted) throw abortedBy(signal)
    if (error instanceof FireError) error.stack = `${error.name}: ${error.message}\n${stackFrames(callSite)}`
    throw error
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}

function stackFrames(error: Error): string {
  return (error.stack ?? '').split('\n').slice(2).join('\n')
}
