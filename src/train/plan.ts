/** What a run would take, without running it: steps, tokens and memory. */

import type { PairCounts } from '../data/pairs.js'
import { expected, throwIfAborted } from '../errors.js'
import { checkOptions } from '../options.js'
import { checkTree } from '../settings/file.js'
import type { Example } from './collate.js'
import { inputsOf, largestReadings, type MemoryNeed, maximum, memoryNeed, planned, type StepBytes } from './memory.js'
import { evaluationBatches, microBatches } from './micro-batches.js'
import { preparePlan } from './prepare.js'
import { warmupSteps } from './schedule.js'
import { type TrainConfig, trainSettings } from './settings.js'
import { shares } from './share.js'
import type { PrepareOptions } from './types.js'

/** What a run would take. */
export interface TrainPlan {
  pairs: PairCounts
  /** Pairs that are evaluated and not trained on. */
  heldOut: number
  warnings: string[]
  /** Distinct image files, corrupted twins included. */
  images: number
  stepsPerEpoch: number
  totalSteps: number
  warmupSteps: number
  trainableParameters: number
  /** Tokens through the decoder in the policy passes of the run, of all ranks, after packing. */
  tokens: number
  /** Hidden rows that reach the LM head in the run. */
  rows: number
  /** Bytes of the run, by the largest micro-batch; of several ranks, of the one that takes most. */
  memory: MemoryNeed
  /** What the ranks say to each other; `null` for one alone. */
  ranks: RankTraffic | null
}

/** Gradients on their way between ranks. */
export interface RankTraffic {
  ranks: number
  /** What a rank sends in each step, and as much does it receive: a sum over a ring moves 2 (N - 1) / N of the gradient, in float32. */
  bytesPerStep: number
  /** Parts that are summed while backward computes the next ones. Only the last one cannot be hidden. */
  buckets: number
}

/** What a plan is told beside the configuration. */
export interface PlanOptions extends PrepareOptions {
  /** Processes that train together; default 1. */
  ranks?: number
}

/** What a bucket has at least (native/dist/gradient_sum.h). */
const bucketBytes = 64 * 2 ** 20

/** @param layers that have as many trained parameters each. */
export function rankTraffic(ranks: number, parameters: number, layers: number): RankTraffic {
  const gradient = 4 * parameters
  const layersOfBucket = Math.min(layers, Math.ceil((bucketBytes * layers) / gradient))
  return {
    ranks,
    bytesPerStep: Math.round((2 * (ranks - 1) * gradient) / ranks),
    buckets: Math.ceil(layers / layersOfBucket),
  }
}

/** Checks everything a run checks, tokenises every pair, and predicts; loads no weight and writes nothing. */
export async function planTraining(config: TrainConfig, options: PlanOptions = {}): Promise<TrainPlan> {
  checkOptions('planTraining', options, { signal: true, onLog: true, native: true, ranks: true })
  const { ranks = 1 } = options
  if (!Number.isInteger(ranks) || ranks < 1) throw expected('a positive integer', 'ranks', ranks)
  checkTree(trainSettings, config, () => undefined)
  const plannable = await preparePlan(config, options)
  const { engine, examples, heldOut, loaded, objective, order, totalSteps } = plannable
  try {
    const totals = { tokens: 0, rows: 0 }
    const seen = new Map<Example, number>()
    let largest: StepBytes | undefined
    const count = async (part: Example[], normalizer: number): Promise<{ tokens: number; rows: number }> => {
      const inputs = part.map((example) => example.input)
      const plan = await engine.plan(inputs, objective, { normalizer, layout: 'packed' })
      const { tokens, rows, referenceBytes, ...bytes } = plan
      largest = largest ? maximum(largest, bytes) : bytes
      for (const example of part) seen.set(example, referenceBytes / part.length)
      return { tokens, rows }
    }
    for (let step = 0; step < totalSteps; step += 1) {
      throwIfAborted(options.signal)
      const batch = order.of(step)
      const parts = shares(batch, ranks).flatMap((share) => microBatches(share, config.microBatchSize))
      for (const part of parts.filter(({ length }) => length > 0)) {
        const { tokens, rows } = await count(part, batch.length)
        totals.tokens += tokens
        totals.rows += rows
      }
    }
    for (const part of evaluationBatches(heldOut?.examples ?? [], config.microBatchSize)) await count(part, 1)
    const readings = Array.from({ length: ranks }, (_, rank) =>
      largestReadings(config, plannable, { rank, size: ranks }),
    )
    for (const { part, reads } of readings.flatMap(({ batches, objective: reads }) =>
      batches.map((part) => ({ part, reads })),
    )) {
      const plan = await engine.plan(inputsOf(part), reads, planned, { training: false })
      const { tokens: _tokens, rows: _rows, referenceBytes: _reference, ...bytes } = plan
      largest = maximum(largest as StepBytes, bytes)
    }
    const reference = [...seen.values()].reduce((sum, bytes) => sum + bytes, 0)
    return {
      pairs: loaded.counts,
      heldOut: heldOut?.examples.length ?? 0,
      warnings: loaded.warnings,
      images: new Set(
        [...examples, ...(heldOut?.examples ?? [])].flatMap((example) => example.images.map((image) => image.id)),
      ).size,
      stepsPerEpoch: order.stepsPerEpoch,
      totalSteps,
      warmupSteps: warmupSteps(config.schedule, totalSteps),
      trainableParameters: engine.info.trainableParameters,
      ...totals,
      memory: memoryNeed(config, plannable, largest as StepBytes, [...seen.keys()], reference),
      ranks: ranks === 1 ? null : rankTraffic(ranks, engine.info.trainableParameters, engine.info.layers),
    }
  } finally {
    await engine.close()
  }
}
