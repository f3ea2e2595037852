/** What a run takes of which memory, and whether that fits. */

import type { Device, Engine, NativeModule, PackWeights, PairInput, PlanStats } from '../engine/engine.js'
import { loadNative } from '../engine/load.js'
import type { World } from '../ranks/ranks.js'
import type { Example } from './collate.js'
import { estimateRows, evaluationBatches, microBatches } from './micro-batches.js'
import type { Place } from './place.js'
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
  const images = {
    features: poolBytes(largestImageTokens(seen, imageCache) * step.featureBytesPerToken, step),
    pixels: largestImageTokens(seen, imageCache + ahead) * step.pixelBytesPerToken,
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
  { onLog, native, localRanks, group }: PrepareOptions & Pick<Place, 'localRanks' | 'group'>,
): Promise<{ checkpointing: boolean; packWeights: PackWeights; packedBytes: number }> {
  const { engine, examples, heldOut, objective, totalSteps } = plannable
  const length = ({ input }: Example): number => input.prompt.length + input.chosen.length + input.rejected.length
  const longestFirst = [...examples].sort((a, b) => length(b) - length(a))
  const seen = [...longestFirst.slice(0, totalSteps * config.batchSize), ...(heldOut?.examples ?? [])]
  const plans = await Promise.all(
    batches.map((batch) => engine.plan(inputsOf(batch), objective, { normalizer: 1, layout: 'packed' })),
  )
  const referenceBytes = Math.max(...plans.map((plan, index) => plan.referenceBytes / batches[index].length))
  const need = memoryNeed(
    config,
    plannable,
    plans.reduce<StepBytes>(maximum, plans[0]),
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
  if (config.checkpointing !== 'auto') return { checkpointing: config.checkpointing, packWeights, packedBytes }
  const checkpointing = asked > free
  if (checkpointing) onLog?.(`checkpointing: on (a step would take ${size(asked)} without, ${size(free)} are free)`)
  return { checkpointing, packWeights, packedBytes }
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
  const sizes = [estimateRows, scoredTokens, imageTokens]
  const largest = sizes.map(() => ({ batch: [] as Example[], size: -1 }))
  const compare = (batch: Example[]): void => {
    for (const [index, sizeOf] of sizes.entries()) {
      const size = sizeOf(batch)
      if (size > largest[index].size) largest[index] = { batch, size }
    }
  }
  for (let step = 0; step < totalSteps; step += 1) {
    microBatches(shares(order.of(step), size)[rank], microBatchSize).forEach(compare)
  }
  const evaluated = evaluationBatches(heldOut?.examples ?? [], microBatchSize).flat()
  evaluationBatches(shares(evaluated, size)[rank], microBatchSize).forEach(compare)
  return [...new Set(largest.map(({ batch }) => batch))].filter((batch) => batch.length > 0)
}

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

/** Whole blocks, and one for what lies between images of different sizes. */
function poolBytes(features: number, { featureBlockBytes: block }: StepBytes): number {
  return block === 0 || features === 0 ? features : (Math.ceil(features / block) + 1) * block
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
function largestImageTokens(examples: Example[], capacity: number): number {
  const tokensOf = new Map<string, number>()
  for (const { images } of examples) for (const { id, tokens } of images) tokensOf.set(id, tokens)
  return [...tokensOf.values()]
    .sort((a, b) => b - a)
    .slice(0, capacity)
    .reduce((sum, tokens) => sum + tokens, 0)
}
