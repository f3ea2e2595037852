/**
 * The one hand-written type of the native module (`fire.node`): everything C++ exports is declared here and nowhere else. Only
 * `load.ts` and `engine.ts` import it: the rest of the project talks to the typed face in `engine.ts`. Token ids, masks, RGB bytes,
 * scalars and paths cross this boundary; weights, features and activations never do. What computes, reads or writes returns a promise:
 * methods of an engine run on its own thread, in call order, but for `prepareImages`, which has another one. What only asks (`cpuInfo`,
 * `gpuReport`, `gpuMemory`, `gpuKernels`, `exchange`) answers at once, on the JavaScript thread: milliseconds, and the first time a GPU is asked
 * about its memory as long as CUDA takes to start on it, tenths of a second.
 */

import type { Device, GemmBackend, PackWeights } from './device.js'
import type { GroupSpec, Transports } from './group.js'
import type { CpuInfo, GemmBenchRow, GemmBenchSpec, GpuMemory, GpuReport } from './machine.js'
import type { ObjectiveSpec } from './objectives.js'

/** Arithmetic of matrix products: float32, or operands rounded to bfloat16 with float32 sums. */
export type DType = 'f32' | 'bf16'

/** LoRA settings; names and defaults are PEFT's. `alpha / rank` scales the update, `alpha / sqrt(rank)` with `rslora`. */
export interface LoraSpec {
  rank: number
  alpha: number
  /**
   * Probability in [0, 1) on the input of A only. Which values are dropped follows from `seed`, the optimizer step, the linear, and the
   * tokens of a sequence up to its own, images by their pixels, not by their ids: calls of one step with equal pairs drop the same.
   */
  dropout: number
  rslora: boolean
  /** Subset of q_proj k_proj v_proj o_proj gate_proj up_proj down_proj. */
  targets: string[]
  /** Seeds A (Kaiming uniform, as PEFT) and the dropout masks. */
  seed: number
}

/** A folder with image features and reference rows, by a hash of what made them, with a checksum. Processes may share it. */
export interface FeatureStore {
  folder: string
  /** Names the content of the model's files: features of other weights are never taken for its own. */
  key: string
  /** Most that the folder holds; what does not fit is not kept. */
  maxBytes: number
}

/** Everything that decides how an engine is opened; `EngineOptions` is the form with defaults. */
export interface EngineSpec {
  /** Checkpoint folder in Hugging Face layout: config.json, *.safetensors (+ index), preprocessor_config.json. */
  model: string
  device: Device
  /**
   * Arithmetic of the matrix products. On a CPU weights are used in place in whatever type they are stored and activations
   * are f32; on a GPU weight matrices and activations are stored in this type.
   */
  dtype: DType
  /** Threads of the compute pool of a CPU; 0 = all the process may use. Results do not depend on it. */
  threads: number
  /** Matrix products. `auto`: the in-tree kernels, whose results depend on neither batch nor threads; others are opt-in. */
  gemm: GemmBackend
  /**
   * Weights packed once for the products of a CPU with its own kernels, at their first use, instead of in every product:
   * the same results, sooner. Takes 4 bytes (`dtype` f32, and bf16 where the processor has no instruction for it) or 2
   * for each weight, twice that where there is a pass back. `auto`: where that is at most a quarter of `freeBytes`.
   */
  packWeights: PackWeights
  /** Main memory that is free; only `packWeights` looks at it. */
  freeBytes: number
  /** A fresh adapter, or `null` for none (generation and scoring only, or `adapter` below). */
  lora: LoraSpec | null
  /** A PEFT adapter folder to load, or `null`. It has its own shape; dropout and seed are those of `lora` where that is given. */
  adapter: string | null
  /** A PEFT adapter folder that the reference model has, frozen; `null`: the reference is the model without an adapter. */
  referenceAdapter: string | null
  /** Recompute each decoder layer in backward instead of keeping its activations. */
  checkpointing: boolean
  /** Memory for the reference's final hidden rows at scored tokens: a pair seen again costs no pass. Exact; 0 = none. */
  referenceCacheBytes: number
  /** Image features and the same reference results on disk, for other engines; `null` = none. */
  featureStore: FeatureStore | null
  /** Ranks whose gradients `update` adds up, or `null`: this engine is alone. Opening waits for all of them. */
  group: GroupSpec | null
  /** A device that only pretends, whether there is one or not: `plan`, `imageTokens`, `info` answer, nothing is loaded. */
  planOnly: boolean
}

/** What an open engine says of its model and machine. Sizes in bytes, everything else counted. */
export interface ModelInfo {
  /** As `model_type` of config.json has it, for instance `qwen3_vl`. */
  family: string
  device: string
  dtype: DType
  threads: number
  gemm: string
  /** Instruction set of the CPU kernels in use, for instance `avx512bf16`. */
  isa: string
  hiddenSize: number
  layers: number
  vocabSize: number
  imageTokenId: number
  eosTokenIds: number[]
  parameters: number
  trainableParameters: number
  weightBytes: number
  /** Of packed copies of the weights (`packWeights`) if every matrix were used; 0 = there are none. `plan` says what a step uses. */
  maxPackedBytes: number
  weightDTypes: string[]
  lora: LoraSpec | null
}

/**
 * One decoded image, 8-bit RGB, row-major, `width * height * 3` bytes. `id` must name its content (a hash). Equal pixels of one
 * size under several ids are encoded and held once.
 */
export interface ImageInput {
  id: string
  width: number
  height: number
  rgb: Uint8Array
}

/** An image as the host made it ready for the vision tower (`prepareImages`). Takes less memory than its pixels. */
export interface PreparedImage {
  readonly id: string
  /** Only what `prepareImages` made is one, and an engine refuses what was made for another model. */
  readonly [preparedImage]: never
}
declare const preparedImage: unique symbol

/** What the vision tower is shown of an image: `rgb` [height, width, 3], resampled, padded and cropped as its family does it. */
export interface ImageView {
  width: number
  height: number
  rgb: Uint8Array
  /** Pixels of the view for one of the image. */
  scaleX: number
  scaleY: number
  /** Where the image begins in the view; negative where it was cropped. */
  left: number
  top: number
}

/** Patch grid of an encoded image `[t, h, w]` and the number of placeholder tokens it takes in a prompt. */
export interface ImageFeatures {
  id: string
  grid: [number, number, number]
  tokens: number
}

/**
 * One preference pair, tokenised. Masks are aligned with their answer: 1 where the token belongs to a decisive phrase.
 * `prompt` already holds `tokens` placeholders per image. For `sft`, `rejected` may be empty.
 */
export interface PairInput {
  id: string
  prompt: Int32Array
  chosen: Int32Array
  rejected: Int32Array
  chosenMask: Uint8Array
  rejectedMask: Uint8Array
  /** Image ids in prompt order, already given to `encodeImages`. */
  images: string[]
  /** The corrupted twins, same order; `null` when the pair has none (its visual weight is then 0). */
  corruptedImages: string[] | null
  /** Multiplies the pair's loss and gradient, >= 0; default 1. `normalizer` counts pairs, not weights. */
  weight?: number
  /** Severity of what is wrong with the rejected answer, >= 0; default 1. Only hsa-dpo reads it. */
  rejectedScore?: number
}

/** How one micro-batch counts in its optimizer step, and how it is laid out. */
export interface StepOptions {
  /** Divides every pair's loss: the number of pairs in the whole optimizer step (over all accumulations). */
  normalizer: number
  /**
   * `packed`: sequences share the rows of all that they begin with alike, the image first, across the pairs of the call. `pair`:
   * the two answers of a pair on one image share theirs, pairs nothing. `plain`, the oracle: unshared sequences, all logits, the
   * tower run per sequence. The loss of a pair is the same in all three; gradients add up in another order.
   */
  layout: 'packed' | 'pair' | 'plain'
  /**
   * Tokens of the chosen answers in the whole optimizer step, for the objectives that average over them (mpo, cpo, orpo);
   * default, and 0: those of the pairs of this call. `averagedTokens` counts them.
   */
  chosenTokens?: number
  /** In a group: nothing more is accumulated before `update`, so the sums over the ranks begin while backward still runs. Default false. */
  last?: boolean
}

/** Sums of log-probabilities over the scored tokens of one sequence; NaN where the objective does not run it. */
export interface SequenceLogps {
  chosen: number
  rejected: number
  corruptedChosen: number
  corruptedRejected: number
}

/**
 * What the loss of one pair was made of; all sums and products in float64. `loss` has the pair's weight and is not yet
 * divided by the normalizer; everything else is without the weight.
 */
export interface PairStats {
  loss: number
  /** Of the pair, as it was given. */
  weight: number
  /** The preference: -log sigmoid of the text margin, or what the objective has in its place (sft: the likelihood). */
  base: number
  /** The visual term before its weight; 0 when not run. */
  visual: number
  /** The anchor term of mdpo and symmpo-pair; 0 elsewhere. */
  anchor: number
  /** Negative log-likelihood of the chosen answer, of objectives that have it beside their preference; 0 elsewhere. */
  nll: number
  /** The classification term of mpo; 0 elsewhere. */
  bco: number
  /** Anchor and consistency of symmpo-pair; 0 elsewhere. */
  anchorVisual: number
  consistency: number
  margin: number
  visualMargin: number
  /** Of (v, y+), where the objective reads them. */
  forwardKl: number
  reverseKl: number
  /** Of (v, y-). */
  rejectedForwardKl: number
  policy: SequenceLogps
  reference: SequenceLogps
  chosenTokens: number
  rejectedTokens: number
}

/** What one micro-batch came to: one entry a pair, in their order. */
export interface StepStats {
  pairs: PairStats[]
  /** Tokens that went through the decoder in the policy pass (after packing). */
  tokens: number
  /** Hidden rows that reached the LM head. */
  rows: number
  seconds: number
}

/**
 * One AdamW step with decoupled weight decay (Loshchilov and Hutter, ICLR 2019): `lr` in [0, 1] is the rate of this step,
 * `beta1` and `beta2` lie in [0, 1), `eps` in [1e-30, 1] is added to the root of the second moment, `lr * weightDecay` is
 * at most 1. Anything else is refused.
 */
export interface AdamWSpec {
  lr: number
  beta1: number
  beta2: number
  eps: number
  weightDecay: number
  /** Global L2 norm to clip to; 0 = no clipping. */
  maxGradNorm: number
}

/** What an optimizer step did: the global L2 norm of the gradient, and how many steps there have been. */
export interface UpdateStats {
  /** Before clipping; of the sum over all ranks. */
  gradNorm: number
  step: number
  /** In a group: how long this rank had nothing to do but wait for the sums, in seconds. Otherwise 0. */
  secondsWaited: number
}

/** One prompt, tokenised: `ids` [n] with the placeholders of its images in place. */
export interface PromptInput {
  ids: Int32Array
  /** Image ids in prompt order, already given to `encodeImages`. */
  images: string[]
  /** Seed of this prompt's own sampler: the same text comes whatever the batch. */
  seed: number
}

/** Texts that end an answer, in UTF-8, and the bytes that each token adds to it: token t bytes[offsets[t], offsets[t + 1]). */
export interface StopStrings {
  strings: string[]
  bytes: Uint8Array
  /** Of every id of the model's vocabulary, and the end. */
  offsets: Int32Array
}

/** How tokens are drawn and when an answer ends; the same for all prompts of a call. */
export interface SamplingSpec {
  maxNewTokens: number
  /** 0 = greedy. */
  temperature: number
  /** Nucleus: the smallest set of tokens with this probability, in (0, 1]; 1 = off. */
  topP: number
  /** 0 = off. */
  topK: number
  stopTokens: number[]
  /** An answer ends as soon as its text holds one of these; `null` = none. */
  stopStrings: StopStrings | null
  /** Prompts decoded together. */
  batchSize: number
  /** Use the adapter (false = the reference model). */
  adapter: boolean
}

/** One answer as token ids. */
export interface Generation {
  /** New tokens, without the stop token, with those that spell a stop string. */
  tokens: Int32Array
  /** Sum of log-probabilities (temperature 1) of the tokens, and of the stop token when there is one. */
  logprob: number
  finish: 'stop' | 'length'
}

/** A sequence to score: `ids` [n] with the placeholders of its images, and their ids in order. */
export interface SequenceInput {
  ids: Int32Array
  images: string[]
}

/** Attention weights of one query position, `[layers, heads, tokens]` row-major, over the image tokens of the sequence. */
export interface AttentionProbe {
  layers: number
  heads: number
  tokens: number
  weights: Float32Array
}

export interface VerifySpec extends Pick<EngineSpec, 'device' | 'dtype' | 'threads' | 'packWeights' | 'freeBytes'> {
  directory: string
}

/** One line of `fire-train verify`: the largest difference in a group of tensors beside what is allowed. */
export interface VerifyRow {
  group: string
  tensors: number
  maxAbs: number
  /** Relative L2 of the worst tensor; NaN where it does not apply. */
  maxRel: number
  worst: string
  /** The tolerance in words, for instance "abs 1e-4". */
  tolerance: string
  pass: boolean
}

/** Bytes and tokens a step would take, predicted without running it. Everything but pixels and rows is the device's. */
export interface PlanStats {
  /** As the device keeps them; on a CPU the mapped file. */
  weightBytes: number
  /** Copies of those that the step uses, packed (`packWeights`). */
  packedBytes: number
  adapterBytes: number
  /** Gradients and both moments. */
  optimizerBytes: number
  activationBytes: number
  /** The workspace of the vision tower for the images of the pairs, in its batches; it is gone when the step begins. */
  visionBytes: number
  /** What a device takes for both: on a GPU one block with room for a batch that is slightly larger. */
  arenaBytes: number
  /** The part of `activationBytes` that holds logits. */
  logitsBytes: number
  /** Of the device, beside the arena. */
  scratchBytes: number
  /** Of an encoded image, a placeholder token. */
  featureBytesPerToken: number
  /** The features of an image take a multiple of so many. */
  featureUnitBytes: number
  /** The same in host memory: an encoded image keeps the pixels that the tower is shown. */
  pixelBytesPerToken: number
  /** Host memory for what the reference says about these pairs (`referenceCacheBytes`). */
  referenceBytes: number
  tokens: number
  rows: number
}

/** A per-call stop flag: `cancel()` makes the native side leave between layers or micro-batches with ERR_FIRE_ABORTED. */
export interface CancelToken {
  /** May be called at any time and more than once; a call that has ended is not affected. */
  cancel(): void
}

/** The engine as the addon has it: `Engine` is its typed face, with checks, defaults and `AbortSignal`. */
export interface NativeEngine {
  readonly info: ModelInfo
  /** Placeholder tokens an image of this size takes. Pure arithmetic. */
  imageTokens(width: number, height: number): number
  /** Needs no device. */
  viewImage(image: ImageInput): Promise<ImageView>
  /** What the host does for an image, on a thread of its own while the engine works: any engine of one model will do. */
  prepareImages(images: ImageInput[], cancel: CancelToken | null): Promise<PreparedImage[]>
  /** Runs the vision tower over all of them together; features stay in the engine under the id of their image. */
  encodeImages(images: (ImageInput | PreparedImage)[], cancel: CancelToken | null): Promise<ImageFeatures[]>
  /** Forgets the features of these images; unknown ids are ignored. */
  releaseImages(ids: string[]): Promise<void>
  /** Predicts, without computing, what `accumulate`, or without `training` `evaluate`, of this batch takes. */
  plan(
    pairs: Required<PairInput>[],
    objective: Required<ObjectiveSpec>,
    options: Required<StepOptions>,
    training: boolean,
  ): Promise<PlanStats>
  /** On a GPU: takes the memory that `plan` says of these batches, so that they take none. */
  reserve(
    batches: Required<PairInput>[][],
    objective: Required<ObjectiveSpec>,
    options: Required<StepOptions>,
    training: boolean,
    cancel: CancelToken | null,
  ): Promise<void>
  /** On a GPU: takes the memory for the features of images of so many tokens that are held together. */
  reserveImages(tokens: number[]): Promise<void>
  /** Forward and backward; gradients add up until `update` or `zeroGrad`. An aborted call adds nothing. */
  accumulate(
    pairs: Required<PairInput>[],
    objective: Required<ObjectiveSpec>,
    options: Required<StepOptions>,
    cancel: CancelToken | null,
  ): Promise<StepStats>
  /** Forward only. */
  evaluate(
    pairs: Required<PairInput>[],
    objective: Required<ObjectiveSpec>,
    options: Required<StepOptions>,
    cancel: CancelToken | null,
  ): Promise<StepStats>
  /** Clips, takes one AdamW step and clears the gradient. */
  update(spec: AdamWSpec): Promise<UpdateStats>
  /**
   * At once, also while a call runs: sums over the ranks that are under way or come later end with `ERR_FIRE_RANKS` and this reason.
   * The gradient is then worth nothing, parameters and moments are those of the last whole update.
   */
  abortGroup(reason: string): void
  /** Clears the accumulated gradient. */
  zeroGrad(): Promise<void>
  /** Log-probability of ids[1:] given what precedes, one array of length n-1 per sequence; common beginnings are computed once. */
  logprobs(sequences: SequenceInput[], adapter: boolean, cancel: CancelToken | null): Promise<Float32Array[]>
  /** One answer a prompt, in their order; `null` callbacks are not called. */
  generate(
    prompts: PromptInput[],
    sampling: SamplingSpec,
    onToken: ((prompt: number, token: number) => void) | null,
    onEnd: ((prompt: number, generation: Generation) => void) | null,
    cancel: CancelToken | null,
  ): Promise<Generation[]>
  /** Attention over the image tokens, one probe a position. */
  attention(sequence: SequenceInput, positions: number[], adapter: boolean): Promise<AttentionProbe[]>
  /** PEFT layout: adapter_config.json and adapter_model.safetensors; written atomically. */
  saveAdapter(directory: string, baseModel: string): Promise<void>
  /** Adapter, AdamW moments and step, bit-exact. */
  saveState(directory: string): Promise<void>
  /** Reads what `saveState` wrote. */
  loadState(directory: string): Promise<void>
  /** Frees everything after the calls that are queued. */
  close(): Promise<void>
}

/** An adapter folded into the checkpoint it belongs to. */
export interface MergeSpec {
  model: string
  adapter: string
  /** An existing folder, for the weights and, with several shards, their index. */
  output: string
  /** No shard is larger, unless a single tensor is. */
  shardBytes: number
  /** `[prefix, replacement]` of tensor names; the first that fits. */
  rename: [string, string][]
}

export interface MergeStats {
  files: string[]
  tensors: number
  /** Tensors that the adapter changed. */
  merged: number
  bytes: number
}

/** The addon, or another implementation of the same interface, for instance an in-memory one in tests. */
export interface NativeModule {
  readonly version: string
  /** The class that carries `code` and `detail`; native errors are made from it. */
  setErrorClass(errorClass: new (code: string, message: string, detail?: Record<string, unknown>) => Error): void
  /** What this machine can do without a GPU. */
  cpuInfo(): CpuInfo
  /** The GPUs there are; answers without loading a model, and opens none: every rank of a machine asks about all. */
  gpuReport(): GpuReport
  /** `device` as in `EngineSpec`, a GPU. Opens CUDA on it, which takes some hundred MiB until this process ends. */
  gpuMemory(device: Device): GpuMemory
  /** Which kernels it takes: "sm_80", those of every GPU; "sm_90a", those of Hopper too. Opens CUDA on it, as `gpuMemory`. */
  gpuKernels(device: Device): string
  /** What gradients can go through between processes, looked for now. */
  transports(): Transports
  /** A new group of NCCL, for `GroupSpec.id`. Throws `ERR_FIRE_RANKS` where there is no NCCL. */
  groupId(): string
  /** Lets two paths of one file system change names in one step; false where the system cannot. */
  exchange(first: string, second: string): boolean
  /** A stop flag for one call. */
  createCancelToken(): CancelToken
  /** Opens a model; every other method of an engine comes after it. */
  openEngine(spec: EngineSpec, cancel: CancelToken | null): Promise<NativeEngine>
  /** Holds a golden folder against the engine, one row a group of tensors. */
  verify(spec: VerifySpec, onRow: ((row: VerifyRow) => void) | null): Promise<VerifyRow[]>
  /** Adds an adapter to the weights it belongs to and writes them to a folder. */
  mergeAdapter(spec: MergeSpec, cancel: CancelToken | null): Promise<MergeStats>
  /** Times matrix products. */
  benchGemm(spec: GemmBenchSpec): Promise<GemmBenchRow[]>
}
