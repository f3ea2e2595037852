/** What a run would take, without running it: steps, tokens and memory. */
import type { TrainConfig } from '../config/schema.js'
import type { PairCounts } from '../data/pairs.js'
import type { PlanStats } from '../engine/engine.js'
import type { Example } from './collate.js'
import { stepIndices } from './order.js'
import { type PrepareOptions, prepare } from './prepare.js'
import { warmupSteps } from './schedule.js'

export interface TrainPlan {
  pairs: PairCounts
  warnings: string[]
  /** Distinct image files, corrupted twins included. */
  images: number
  stepsPerEpoch: number
  totalSteps: number
  warmupSteps: number
  trainableParameters: number
  /** Tokens through the decoder in the policy passes of the run, after packing. */
  tokens: number
  /** Hidden rows that reach the LM head in the run. */
  rows: number
  /** Bytes of the largest micro-batch; together they are the engine's need beside the weights. */
  memory: Pick<PlanStats, 'weightBytes' | 'adapterBytes' | 'optimizerBytes' | 'activationBytes' | 'logitsBytes'>
}

/** Checks everything a run checks, tokenises every pair, and predicts; writes nothing and computes no layer. */
export async function planTraining(config: TrainConfig, options: PrepareOptions = {}): Promise<TrainPlan> {
  const { engine, examples, loaded, objective, stepsPerEpoch, totalSteps } = await prepare(config, options)
  try {
    const totals = { tokens: 0, rows: 0 }
    const memory = { weightBytes: 0, adapterBytes: 0, optimizerBytes: 0, activationBytes: 0, logitsBytes: 0 }
    for (let step = 0; step < totalSteps; step += 1) {
      options.signal?.throwIfAborted()
      const indices = stepIndices(examples.length, config.batchSize, config.seed, step)
      const batch = Array.from(indices, (index) => examples[index])
      for (const part of microBatches(batch, config.microBatchSize)) {
        const inputs = part.map((example) => example.input)
        const plan = await engine.plan(inputs, objective, { normalizer: batch.length, layout: 'packed' })
        totals.tokens += plan.tokens
        totals.rows += plan.rows
        for (const key of Object.keys(memory) as (keyof typeof memory)[]) memory[key] = Math.max(memory[key], plan[key])
      }
    }
    return {
      pairs: loaded.counts,
      warnings: loaded.warnings,
      images: new Set(examples.flatMap((example) => example.images.map((image) => image.id))).size,
      stepsPerEpoch,
      totalSteps,
      warmupSteps: warmupSteps(config.schedule, totalSteps),
      trainableParameters: engine.info.trainableParameters,
      ...totals,
      memory,
    }
  } finally {
    await engine.close()
  }
}

/** Cuts the pairs of a step into the groups that are computed at once. */
export function microBatches(batch: Example[], size: number): Example[][] {
  const parts: Example[][] = []
  for (let start = 0; start < batch.length; start += size) parts.push(batch.slice(start, start + size))
  return parts
}
