/** What the variants of a benchmark have in common: the lines they print and the coefficients they compute with. */
import type { AdamWSpec, ObjectiveSpec } from '../engine/engine.js'

/** `packed` encodes the images in every step, `cached` keeps their features and the reference rows, `plain` shares nothing. */
export type EngineVariant = 'packed' | 'cached' | 'plain'

/** The published coefficients, which bench/peer/torch_step.py has as well. */
export const publishedFire: ObjectiveSpec = {
  name: 'fire',
  beta: 0.1,
  alpha: 0.01,
  gamma: 0.1,
  lambda: 0.5,
  klReduction: 'sum',
}

/** The peer's: so small a rate that the work of every step stays that of the first. */
export const optimizer: AdamWSpec = {
  lr: 1e-6,
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  weightDecay: 0,
  maxGradNorm: 0,
}

/** First line of a variant's process; what else it says about itself goes to the results as it is. */
export interface ReadyMessage {
  ready: true
  variant: string
  dtype: string
  [detail: string]: unknown
}

/** What every variant says of a round; `peak_rss` is of the whole process so far. */
export interface Measured {
  step: number
  seconds: number
  tokens: number
  peak_rss: number
}

/** One step. `loss` is before the update, `tokens` those of the policy pass. */
export interface StepMessage extends Measured {
  loss: number
  grad_norm: number
}

/** One round of answers; `tokens` counts the new ones of all answers, `answers` holds them. */
export interface GenerateMessage extends Measured {
  answers: number[][]
}
