/** What a run takes of which memory, and whether that fits. */

import type {
  Device,
  Engine,
  GroupSpec,
  NativeModule,
  PackWeights,
  PairInput,
  PlanStats,
  StepOptions,
} from '../engine/engine.js'
import { loadNative } from '../engine/load.js'
import type { World } from '../ranks/ranks.js'
import type { Seat } from '../ranks/seat.js'
import type { Example } from './collate.js'
import { readings } from './evaluation.js'
import { estimateRows, evaluationBatches, evaluationOrder, microBatches } from './micro-batches.js'
import type { TrainConfig } from './settings.js'
import { shares } from './share.js'
import type { Plannable, PrepareOptions } from './types.js'

/** Bytes. On a CPU everything is host memory, and `device` is zero. */
export interface MemoryNeed {
  weights: number
  /** Copies of them in the form of matrix products (`packWeights`). */
  packed: number
  /** That of the reference too, where it has one. */
  adapter: number
  /** Gradients and AdamW's moments. */
  optimizer: number
  /** The largest micro-batch, or the vision tower before it, logits and workspaces included. */
  activations: number
  /** Images (`imageCache`): features of those that are encoded on the device, on the host pixels, also of the next step's. */
  images: { features: number; pixels: number }
  /** What the reference said about pairs (`referenceCache`). */
  reference: number
  /** Node, libraries and records: this process as it is now, and what it takes more when it works. */
  runtime: number
  /** Highest sum of each memory. */
  peak: { device: number; host: number }
}

/**
 * Decoding of images, packing of matrix products, garbage between collections, ends of the allocator's blocks: by how much
 * the demo's training exceeded the sum of the rest, rounded.
 */
const workingBytes = 44 * 2 ** 20

/** The bytes of a plan that do not depend on how many steps there are. */
export type StepBytes = Omit<PlanStats, 'tokens' | 'rows' | 'referenceBytes'>

/**
 * @param step the largest micro-batch.
 * @param seen the pairs that the run comes to.
 * @param referenceBytes what the reference says about all of them.
 */
export function memoryNeed(
  config: TrainConfig,
  { engine }: Plannable,
  step: StepBytes,
  seen: Example[],
  referenceBytes: number,
): MemoryNeed {
  const onGpu = isGpu(engine)
  const { imageCache, batchSize } = config
  // Those of the next step are prepared while the others are held.
  const ahead = Math.min(imageCache, batchSize * Math.max(0, ...seen.map(({ images }) => images.length)))
  const pixels = largestImages(seen, imageCache + ahead).reduce((sum, tokens) => sum + tokens, 0)
  const images = {
    features: featureBytes(imagesHeld(config, seen), step),
    pixels: pixels * step.pixelBytesPerToken,
  }
  const reference = Math.min(config.referenceCache * 2 ** 20, referenceBytes)
  const activations = step.arenaBytes + step.scratchBytes
  const runtime = process.memoryUsage.rss() + workingBytes
  const device =
    step.weightBytes + step.packedBytes + step.adapterBytes + step.optimizerBytes + activations + images.features
  const host = runtime + images.pixels + reference
  return {
    weights: step.weightBytes,
    packed: step.packedBytes,
    adapter: step.adapterBytes,
    optimizer: step.optimizerBytes,
    activations,
    images,
    reference,
    runtime,
    peak: onGpu ? { device, host } : { device: 0, host: device + host },
  }
}

/** The larger of each. */
export function maximum(a: StepBytes, b: StepBytes): StepBytes {
  const keys = Object.keys(a) as (keyof StepBytes)[]
  return Object.fromEntries(keys.map((key) => [key, Math.max(a[key], b[key])])) as unknown as StepBytes
}

/** Which rank computes where, and how many share its machine. */
interface Seating extends Pick<Seat, 'localRanks'> {
  group: GroupSpec | null
  world: Pick<World, 'rank' | 'size'>
}

/**
 * `checkpointing` and `packWeights` as configured, or, for `auto`, by whether the largest micro-batches of the run fit into the memory
 * that is free. Packed weights give way first: they save less than recomputing costs.
 *
 * @param batches see `largestMicroBatches`.
 */
export async function decideMemory(
  config: TrainConfig,
  plannable: Plannable,
  batches: Example[][],
  { onLog, native, localRanks, group, world }: PrepareOptions & Seating,
): Promise<{ checkpointing: boolean; packWeights: PackWeights; packedBytes: number; imageTokens: number[] }> {
  const { engine, examples, heldOut, objective, totalSteps } = plannable
  const length = ({ input }: Example): number => input.prompt.length + input.chosen.length + input.rejected.length
  const longestFirst = [...examples].sort((a, b) => length(b) - length(a))
  const seen = [...longestFirst.slice(0, totalSteps * config.batchSize), ...(heldOut?.examples ?? [])]
  const plans = await Promise.all(batches.map((batch) => engine.plan(inputsOf(batch), objective, planned)))
  const reading = largestReadings(config, plannable, world)
  const others = await Promise.all(
    reading.batches.map((batch) => engine.plan(inputsOf(batch), reading.objective, planned, { training: false })),
  )
  const referenceBytes = Math.max(...plans.map((plan, index) => plan.referenceBytes / batches[index].length))
  const need = memoryNeed(
    config,
    plannable,
    [...plans, ...others].reduce<StepBytes>(maximum, plans[0]),
    seen,
    referenceBytes * seen.length,
  )
  const size = (bytes: number): string =>
    bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(0)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`
  const free = isGpu(engine)
    ? freeOnGpu(engine.spec.device, native ?? loadNative()) - (group ? ncclBytes : 0)
    : process.availableMemory() / localRanks
  // What is there already is part of the peak, not of what is free.
  let asked = isGpu(engine) ? need.peak.device : need.peak.host - process.memoryUsage.rss()
  let { packWeights } = config
  let packedBytes = need.packed
  if (packWeights === 'auto' && asked > free) {
    packWeights = 'off'
    packedBytes = 0
    asked -= need.packed
  } else if (need.packed > 0) {
    onLog?.(`packWeights: ${size(need.packed)} of copies for matrix products (${size(free)} are free)`)
  }
  const decided = { packWeights, packedBytes, imageTokens: imagesHeld(config, seen) }
  if (config.checkpointing !== 'auto') return { checkpointing: config.checkpointing, ...decided }
  const checkpointing = asked > free
  if (checkpointing) onLog?.(`checkpointing: on (a step would take ${size(asked)} without, ${size(free)} are free)`)
  return { checkpointing, ...decided }
}

/**
 * The micro-batches of a rank that may take most memory: of the most rows, of the most scored tokens, whose logits are held, and of the
 * most image tokens, which go through the tower together.
 */
export function largestMicroBatches(
  { microBatchSize }: TrainConfig,
  { order, heldOut, totalSteps }: Plannable,
  { rank, size }: Pick<World, 'rank' | 'size'>,
): Example[][] {
  function* all(): Iterable<Example[]> {
    for (let step = 0; step < totalSteps; step += 1) {
      yield* microBatches(shares(order.of(step), size)[rank], microBatchSize)
    }
    const evaluated = evaluationOrder(heldOut?.examples ?? [], microBatchSize)
    yield* evaluationBatches(shares(evaluated, size)[rank], microBatchSize)
  }
  return largestOf(all())
}

/** The same of what an evaluation computes with another objective. */
export function largestReadings(
  config: TrainConfig,
  plannable: Plannable,
  world: Pick<World, 'rank' | 'size'>,
): ReturnType<typeof readings> {
  const { batches, objective } = readings(plannable, config, world)
  return { batches: largestOf(batches), objective }
}

function largestOf(batches: Iterable<Example[]>): Example[][] {
  const sizes = [estimateRows, scoredTokens, imageTokens]
  const largest = sizes.map(() => ({ batch: [] as Example[], size: -1 }))
  for (const batch of batches) {
    for (const [index, sizeOf] of sizes.entries()) {
      const size = sizeOf(batch)
      if (size > largest[index].size) largest[index] = { batch, size }
    }
  }
  return [...new Set(largest.map(({ batch }) => batch))].filter((batch) => batch.length > 0)
}

/** How plans are made and memory is reserved: no number of it depends on the normalizer. */
export const planned: StepOptions = { normalizer: 1, layout: 'packed' }

/** What the engine is given of them. */
export const inputsOf = (batch: readonly Example[]): PairInput[] => batch.map(({ input }) => input)

function scoredTokens(batch: Example[]): number {
  const scored = (mask: Uint8Array): number => mask.reduce((sum, flag) => sum + flag, 0)
  return batch.reduce((sum, { input }) => sum + scored(input.chosenMask) + scored(input.rejectedMask), 0)
}

function imageTokens(batch: Example[]): number {
  const tokens = new Map(batch.flatMap(({ images }) => images.map((image) => [image.id, image.tokens] as const)))
  return [...tokens.values()].reduce((sum, count) => sum + count, 0)
}

/** Of images that are held together, by their tokens: what the engine takes for them (`native/model/feature_pool.h`). */
export function featureBytes(tokens: readonly number[], step: FeatureSizes): number {
  const { featureBytesPerToken: bytes, featureUnitBytes: unit } = step
  return tokens.reduce((sum, count) => sum + Math.ceil((count * bytes) / unit) * unit, 0)
}
type FeatureSizes = Pick<PlanStats, 'featureBytesPerToken' | 'featureUnitBytes'>

/** Tokens of the images that may be held at once: `imageCache`, and more where one call needs more. */
function imagesHeld({ imageCache, microBatchSize, evalSamples }: TrainConfig, seen: readonly Example[]): number[] {
  const mostOfPair = Math.max(0, ...seen.map(({ images }) => images.length))
  return largestImages(seen, Math.max(imageCache, mostOfPair * Math.max(microBatchSize, evalSamples)))
}

function isGpu(engine: Engine): boolean {
  return engine.info.device.startsWith('cuda')
}

/** Buffers of NCCL on a GPU, which it takes when the ranks come together. Counted generously, not measured. */
const ncclBytes = 512 * 2 ** 20

/**
 * What is free on the GPU now, CUDA's context and other processes' memory gone from it, but for what comes later: CUDA loads a kernel
 * when it first runs and rounds each block up to 2 MiB, cuBLASLt has code of its own. Counted generously, not measured.
 */
function freeOnGpu(device: Device, native: Pick<NativeModule, 'gpuMemory'>): number {
  return native.gpuMemory(device).freeBytes - 256 * 2 ** 20
}

/** Placeholder tokens of so many of the largest images. */
function largestImages(examples: readonly Example[], capacity: number): number[] {
  const tokensOf = new Map<string, number>()
  for (const { images } of examples) for (const { id, tokens } of images) tokensOf.set(id, tokens)
  return [...tokensOf.values()].sort((a, b) => b - a).slice(0, capacity)
}
