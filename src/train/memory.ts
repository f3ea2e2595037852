/** What a run takes of which memory, and whether that fits. */

import type { Engine, PackWeights, PlanStats } from '../engine/engine.js'
import { loadNative } from '../engine/load.js'
import type { Example } from './collate.js'
import { estimateRows, evaluationBatches, microBatches } from './micro-batches.js'
import type { TrainConfig } from './settings.js'
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
  /** The largest micro-batch, or the vision tower before it, logits included. */
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
  const activations = Math.max(step.activationBytes, step.visionBytes) + step.scratchBytes
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

/**
 * `checkpointing` and `packWeights` as configured, or, for `auto`, by whether the largest micro-batch of the run fits into the memory
 * that is free. Packed weights give way first: they save less than recomputing costs.
 */
export async function decideMemory(
  config: TrainConfig,
  plannable: Plannable,
  { onLog, native }: PrepareOptions,
): Promise<{ checkpointing: boolean; packWeights: PackWeights }> {
  const { engine, examples, heldOut, objective, totalSteps } = plannable
  const length = ({ input }: Example): number => input.prompt.length + input.chosen.length + input.rejected.length
  const longestFirst = [...examples].sort((a, b) => length(b) - length(a))
  const seen = [...longestFirst.slice(0, totalSteps * config.batchSize), ...(heldOut?.examples ?? [])]
  const largest = largestMicroBatch(config, plannable)
  const inputs = largest.map((example) => example.input)
  const step = await engine.plan(inputs, objective, { normalizer: 1, layout: 'packed' })
  const need = memoryNeed(config, plannable, step, seen, (step.referenceBytes / largest.length) * seen.length)
  const size = (bytes: number): string =>
    bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(0)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`
  const free = isGpu(engine) ? freeOnGpu(config, native ?? loadNative()) : process.availableMemory()
  // What is there already is part of the peak, not of what is free.
  let asked = isGpu(engine) ? need.peak.device : need.peak.host - process.memoryUsage.rss()
  let { packWeights } = config
  if (packWeights === 'auto' && asked > free) {
    packWeights = 'off'
    asked -= need.packed
  } else if (need.packed > 0) {
    onLog?.(`packWeights: ${size(need.packed)} of copies for matrix products (${size(free)} are free)`)
  }
  if (config.checkpointing !== 'auto') return { checkpointing: config.checkpointing, packWeights }
  const checkpointing = asked > free
  if (checkpointing) onLog?.(`checkpointing: on (a step would take ${size(asked)} without, ${size(free)} are free)`)
  return { checkpointing, packWeights }
}

function largestMicroBatch({ microBatchSize }: TrainConfig, { order, heldOut, totalSteps }: Plannable): Example[] {
  let largest = { pairs: [] as Example[], rows: 0 }
  const compare = (parts: Example[][]): void => {
    for (const pairs of parts) {
      const rows = estimateRows(pairs)
      if (rows > largest.rows) largest = { pairs, rows }
    }
  }
  for (let step = 0; step < totalSteps; step += 1) compare(microBatches(order.of(step), microBatchSize))
  compare(evaluationBatches(heldOut?.examples ?? [], microBatchSize))
  return largest.pairs
}

/** Whole blocks, and one for what lies between images of different sizes. */
function poolBytes(features: number, { featureBlockBytes: block }: StepBytes): number {
  return block === 0 || features === 0 ? features : (Math.ceil(features / block) + 1) * block
}

function isGpu(engine: Engine): boolean {
  return engine.info.device.startsWith('cuda')
}

/** All of the GPU but what CUDA itself takes; a GPU that others use as well needs `checkpointing` set by hand. */
function freeOnGpu(config: TrainConfig, native: { gpuReport(): { gpus: { totalBytes: number }[] } }): number {
  const index = Number(/^cuda:(\d+)$/.exec(config.device)?.[1] ?? 0)
  const context = 700 * 2 ** 20
  return (native.gpuReport().gpus[index]?.totalBytes ?? 0) - context
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
