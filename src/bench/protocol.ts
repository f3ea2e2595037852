/** What the variants of a benchmark have in common: the lines they print and the coefficients they compute with. */
import type { AdamWSpec, ObjectiveSpec, PairStats } from '../engine/engine.js'
import type { BenchObjective } from './settings.js'

/**
 * `packed` encodes the images in every step, `pair` too but shares nothing between pairs, `cached` keeps their features and the
 * reference rows, `plain` shares nothing.
 */
export type EngineVariant = 'packed' | 'pair' | 'cached' | 'plain'

/** What a step computes and how it is taken. */
export interface StepSpec {
  objective: ObjectiveSpec
  optimizer: AdamWSpec
}

const adamw: Omit<AdamWSpec, 'lr'> = { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, maxGradNorm: 0 }

export const stepSpecs: Record<BenchObjective, StepSpec> = {
  // The published coefficients, which bench/peer/torch_step.py has as well; so small a rate that the work of every step
  // stays that of the first.
  fire: {
    objective: { name: 'fire', beta: 0.1, alpha: 0.01, gamma: 0.1, lambda: 0.5, klReduction: 'sum' },
    optimizer: { ...adamw, lr: 1e-6 },
  },
  // So large a rate that four steps change every number.
  dpo: { objective: { name: 'dpo', beta: 0.1 }, optimizer: { ...adamw, lr: 1e-3 } },
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

/** Of one step before its update; log-probabilities and margins are means over the pairs, under TRL's names. */
export interface StepNumbers {
  loss: number
  grad_norm: number
  'logps/chosen'?: number
  'logps/rejected'?: number
  'rewards/margins'?: number
}

export function stepNumbers(pairs: readonly PairStats[], gradNorm: number): StepNumbers {
  const mean = (of: (pair: PairStats) => number): number =>
    pairs.reduce((sum, pair) => sum + of(pair), 0) / pairs.length
  return {
    loss: mean(({ loss }) => loss),
    grad_norm: gradNorm,
    'logps/chosen': mean(({ policy }) => policy.chosen),
    'logps/rejected': mean(({ policy }) => policy.rejected),
    'rewards/margins': mean(({ margin }) => margin),
  }
}

/** One step. `tokens` are those of the policy pass. */
export interface StepMessage extends Measured, StepNumbers {}

/** One round of answers; `tokens` counts the new ones of all answers, `answers` holds them. */
export interface GenerateMessage extends Measured {
  answers: number[][]
}
