/** What a run would take, without running it: steps, tokens and memory. */

import type { PairCounts } from '../data/pairs.js'
import { throwIfAborted } from '../errors.js'
import { checkOptions } from '../options.js'
import { checkTree } from '../settings/file.js'
import type { Example } from './collate.js'
import { type MemoryNeed, memoryNeed, type StepBytes } from './memory.js'
import { evaluationBatches, microBatches } from './micro-batches.js'
import { preparePlan } from './prepare.js'
import { warmupSteps } from './schedule.js'
import { type TrainConfig, trainSettings } from './settings.js'
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
  /** Tokens through the decoder in the policy passes of the run, after packing. */
  tokens: number
  /** Hidden rows that reach the LM head in the run. */
  rows: number
  /** Bytes of the run, by the largest micro-batch. */
  memory: MemoryNeed
}

/** Checks everything a run checks, tokenises every pair, and predicts; loads no weight and writes nothing. */
export async function planTraining(config: TrainConfig, options: PrepareOptions = {}): Promise<TrainPlan> {
  checkOptions('planTraining', options, { signal: true, onLog: true, native: true })
  checkTree(trainSettings, config, () => undefined)
  const plannable = await preparePlan(config, options)
  const { engine, examples, heldOut, loaded, objective, order, totalSteps } = plannable
  try {
    const totals = { tokens: 0, rows: 0 }
    const seen = new Map<Example, number>()
    let largest: StepBytes | undefined
    for (let step = 0; step < totalSteps; step += 1) {
      throwIfAborted(options.signal)
      const batch = order.of(step)
      for (const part of microBatches(batch, config.microBatchSize)) {
        const inputs = part.map((example) => example.input)
        const plan = await engine.plan(inputs, objective, { normalizer: batch.length, layout: 'packed' })
        const { tokens, rows, ...bytes } = plan
        totals.tokens += tokens
        totals.rows += rows
        largest = largest ? maximum(largest, bytes) : bytes
        for (const example of part) seen.set(example, rows / part.length)
      }
    }
    for (const part of evaluationBatches(heldOut?.examples ?? [], config.microBatchSize)) {
      const inputs = part.map((example) => example.input)
      const { tokens: _, rows, ...bytes } = await engine.plan(inputs, objective, { normalizer: 1, layout: 'packed' })
      largest = largest ? maximum(largest, bytes) : bytes
      for (const example of part) seen.set(example, rows / part.length)
    }
    const rows = [...seen.values()].reduce((sum, count) => sum + count, 0)
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
      memory: memoryNeed(config, plannable, largest as StepBytes, [...seen.keys()], rows),
    }
  } finally {
    await engine.close()
  }
}

function maximum(a: StepBytes, b: StepBytes): StepBytes {
  const keys = Object.keys(a) as (keyof StepBytes)[]
  return Object.fromEntries(keys.map((key) => [key, Math.max(a[key], b[key])])) as unknown as StepBytes
}
