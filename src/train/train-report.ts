/** What a run came to. */
import type { PairCounts } from '../data/pairs.js'
import type { ModelInfo } from '../engine/engine.js'
import type { Machine } from './machine.js'
import type { EvaluationMetric, EvaluationRow, MetricsRow } from './metrics.js'

/** What a run came to; also written as train.json when it is complete. */
export interface TrainReport {
  version: string
  /** Optimizer steps done since the start of the run, and how many it has. */
  step: number
  totalSteps: number
  /** Step this call started from: 0, or the checkpoint's. */
  resumedFrom: number
  interrupted: boolean
  /** Why a complete run took fewer than `totalSteps` (`earlyStopping`). */
  stoppedEarly: string | null
  output: string
  /** The adapter that training started from (`lora.init`); `null`: a fresh one. */
  init: string | null
  /** What tells that adapter from another one at its place. */
  initMark: string | null
  /** SHA-256 of the adapter that is merged into the model, where the model's folder says so. Reports of earlier builds do not have it. */
  mergedSha256?: string | null
  /** What the policy was compared with: the adapter of `init`, or the model without an adapter. */
  reference: 'init' | 'base'
  /** PEFT folder of the trained adapter, once the run is complete. */
  adapter: string | null
  /** What tells it from every other one, wherever it is: SHA-256 of the folder's files. Reports of earlier builds do not have it. */
  adapterSha256?: string | null
  /** PEFT folder of the adapter with the best value of `checkpoint.best`, that value, and `eval_loss` beside it. */
  best: { path: string; sha256?: string; metric: EvaluationMetric; step: number; value: number; loss?: number } | null
  /** Pairs that were evaluated and not trained on. */
  heldOut: number
  /** The last evaluation of the held-out pairs. */
  evaluation: EvaluationRow | null
  /** The checkpoint of exactly this step, when there is one. */
  checkpoint: string | null
  pairs: PairCounts
  /** The file with the pairs that could not be used, when there are any. */
  failures: string | null
  /** What speaks against a complete run: its gradient was 0, or its loss diverged (docs/training.md). */
  problem: string | null
  warnings: string[]
  model: ModelInfo
  /** Of rank 0, as all numbers of the machine and of memory here. */
  machine: Machine
  /** Processes that took the last steps together. Reports of earlier builds do not have it. */
  ranks?: number
  /** Wall time of this call's steps. */
  seconds: number
  /** Layers were recomputed in backward (`checkpointing`). */
  checkpointing: boolean
  /** Copies of the weights in the form of matrix products (`packWeights`), in bytes: `packed` of the plan. */
  packedBytes: number
  /** Highest resident memory of this process so far, in bytes. */
  peakHostBytes: number
  /** The last step's metrics; `null` when this call had nothing left to do. */
  last: MetricsRow | null
}
