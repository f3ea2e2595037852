/**
 * What each named objective is made of: the one table that configuration, metrics and reports read. Formulas are in
 * docs/objectives.md; the engine computes them.
 */
import type { ObjectiveName, SequenceLogps } from '../engine/engine.js'

export const coefficientNames = ['beta', 'alpha', 'gamma', 'lambda', 'klReduction'] as const
/** A coefficient that at least one objective reads. */
export type Coefficient = (typeof coefficientNames)[number]

/** What an objective is made of. */
export interface ObjectiveTraits {
  summary: string
  /** Coefficients the formula reads. Setting another one is refused: the run would be a no-op ablation. */
  uses: readonly Coefficient[]
  /** Log-probabilities are summed over phrase tokens (true) or over the whole answer (false). */
  phrases: boolean
  /** The sequences the visual term compares, and its weight; `null` when there is none. */
  visual: { chosen: keyof SequenceLogps; rejected: keyof SequenceLogps; weight: 'gamma' | 1 } | null
  /** Weight of the forward direction in the KL term: a number, or lambda. `null` when there is no KL term. */
  forwardKl: 1 | 'lambda' | null
}

const fire = { uses: ['beta', 'alpha', 'gamma', 'lambda', 'klReduction'], phrases: true, forwardKl: 'lambda' } as const

/** Every objective with its traits. */
export const objectives: Record<ObjectiveName, ObjectiveTraits> = {
  sft: {
    summary: 'negative log-likelihood of the chosen answer',
    uses: [],
    phrases: false,
    visual: null,
    forwardKl: null,
  },
  dpo: {
    summary: 'preference over whole answers',
    uses: ['beta'],
    phrases: false,
    visual: null,
    forwardKl: null,
  },
  mdpo: {
    summary: 'dpo, plus a preference for the clean image and an anchor on the chosen reward',
    uses: ['beta'],
    phrases: false,
    visual: { chosen: 'chosen', rejected: 'corruptedChosen', weight: 1 },
    forwardKl: null,
  },
  'mask-dpo': {
    summary: 'preference over phrase tokens only',
    uses: ['beta'],
    phrases: true,
    visual: null,
    forwardKl: null,
  },
  rrpo: {
    summary: 'phrase preference with forward KL over the whole chosen answer',
    uses: ['beta', 'alpha', 'klReduction'],
    phrases: true,
    visual: null,
    forwardKl: 1,
  },
  'rrpo-phrase-kl': {
    summary: 'phrase preference with forward KL over phrase tokens',
    uses: ['beta', 'alpha', 'klReduction'],
    phrases: true,
    visual: null,
    forwardKl: 1,
  },
  fire: {
    ...fire,
    summary: 'phrase preference, mixed KL on phrases, preference reversed under the corrupted image',
    visual: { chosen: 'corruptedRejected', rejected: 'corruptedChosen', weight: 'gamma' },
  },
  'fire-v1': {
    ...fire,
    summary: 'fire with the visual term (v, chosen) over (corrupted, chosen)',
    visual: { chosen: 'chosen', rejected: 'corruptedChosen', weight: 'gamma' },
  },
  'fire-v2': {
    ...fire,
    summary: 'fire with the visual term (v, chosen) over (corrupted, rejected)',
    visual: { chosen: 'chosen', rejected: 'corruptedRejected', weight: 'gamma' },
  },
}

/** The names that `objective.name` of a configuration may have. */
export const objectiveNames = Object.keys(objectives) as ObjectiveName[]
