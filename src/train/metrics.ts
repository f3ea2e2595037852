/** One row of metrics.jsonl per optimizer step, under the names that TRL's trainers use where it has them. */

import type { PairStats, StepStats } from '../engine/engine.js'
import {
  type Coefficients,
  type Comparison,
  type LossTerm,
  type ObjectiveSpec,
  objectives,
  rewardScale,
  type Sequence,
  termWeight,
} from '../engine/objectives.js'

/** Keys with no value in a step (a term the objective lacks, a pair without twin) are left out, never written as NaN. */
export type MetricsRow = { step: number; epoch: number; loss: number } & Record<string, number>

/** Keys of the held-out pairs: those of a training row behind `eval_`, as TRL's trainers call them. */
export type EvaluationRow = { step: number; epoch: number; eval_loss: number } & Record<string, number>

/** A line of ranks.jsonl: what one of several ranks says of a step. Times are in seconds; the last three add up to the first. */
export interface RankRow {
  step: number
  rank: number
  host: string
  /** Of its share of the step. */
  pairs: number
  /** Of the decoder, for these pairs. */
  rows: number
  /** Wall time of the step on this rank. */
  seconds: number
  engine_time: number
  /** Waiting for images to be read and decoded. */
  data_time: number
  /** Waiting for gradients of other ranks. */
  ranks_time: number
  /** Highest resident memory of the process so far. */
  peak_host_bytes: number
}

/** A line of metrics.jsonl: of a step or of an evaluation. */
export type LogRow = { step: number; epoch: number } & Record<string, number>

/** The numbers of an evaluation that tell a better adapter, and which way is better. */
export const evaluationMetrics = {
  eval_loss: 'lower',
  'eval_rewards/accuracies': 'greater',
  'eval_rewards/margins': 'greater',
  'eval_rewards/visual/accuracies': 'greater',
  'eval_rewards/visual/margins': 'greater',
  'eval_logps/chosen': 'greater',
} as const

/** What `checkpoint.best` and `earlyStopping.metric` can name. */
export type EvaluationMetric = keyof typeof evaluationMetrics

/** What the engine said of a step, its micro-batches together. */
export type Computed = Pick<StepStats, 'pairs' | 'tokens'>

/** What a row of metrics says beside the losses. */
export interface StepContext {
  step: number
  epoch: number
  lr: number
  gradNorm: number
  /** Tokens since the start of the run, this step included. */
  numTokens: number
  /** Wall time of the step, images and update included. */
  seconds: number
  /** Of these, what the engine waited for images to be read and decoded. */
  secondsWaited: number
  /** Highest resident memory of the process so far, in bytes. */
  peakHostBytes: number
}

/**
 * Means over the pairs of the step. `loss/*` are the contributions to `loss`, weights of terms and pairs included, so they
 * add up to it; everything else is without the pairs' weights, whose mean is `weight` where they are not all 1.
 * Rewards are beta * (log pi - log pi_ref) of the scored tokens, summed whatever the loss divides by, and beta * log pi where
 * there is no reference; an accuracy counts strictly positive margins, so it is
 * 0 while policy and reference are equal. An objective that compares nothing has neither margins nor accuracies. Visual rewards are means over the pairs that have a corrupted twin.
 */
export function metricsRow({ pairs, tokens }: Computed, objective: ObjectiveSpec, context: StepContext): MetricsRow {
  return finite({
    step: context.step,
    epoch: context.epoch,
    ...lossMetrics(pairs, objective),
    learning_rate: context.lr,
    grad_norm: context.gradNorm,
    phrase_tokens: sum(pairs, (pair) => pair.chosenTokens + pair.rejectedTokens),
    num_tokens: context.numTokens,
    tokens_per_second: tokens / context.seconds,
    pairs_per_second: pairs.length / context.seconds,
    data_time: context.secondsWaited,
    engine_time: context.seconds - context.secondsWaited,
    peak_host_bytes: context.peakHostBytes,
  }) as MetricsRow
}

/** The same of held-out pairs. @param kl of pairs, where the objective itself reads none. */
export function evaluationRow(
  pairs: PairStats[],
  kl: PairStats[],
  objective: ObjectiveSpec,
  context: Pick<StepContext, 'step' | 'epoch' | 'seconds'>,
): EvaluationRow {
  const measured = {
    ...lossMetrics(pairs, objective),
    ...(objectives[objective.name].startsAtLn2 && { 'loss/base_error': errorOfBase(pairs) }),
    ...(kl.length > 0 && {
      'kl/forward': mean(kl, (pair) => pair.forwardKl),
      'kl/reverse': mean(kl, (pair) => pair.reverseKl),
    }),
  }
  return finite({
    step: context.step,
    epoch: context.epoch,
    ...Object.fromEntries(Object.entries(measured).map(([key, value]) => [`eval_${key}`, value])),
    eval_runtime: context.seconds,
    eval_samples_per_second: pairs.length / context.seconds,
  }) as EvaluationRow
}

/** Standard error over the pairs of `loss/base` divided by their mean weight. */
function errorOfBase(pairs: PairStats[]): number {
  const weight = mean(pairs, (pair) => pair.weight)
  const base = mean(pairs, (pair) => pair.weight * pair.base) / weight
  const squares = mean(pairs, (pair) => ((pair.weight * (pair.base - base)) / weight) ** 2)
  return Math.sqrt(squares / (pairs.length - 1))
}

const finite = (row: Record<string, number>): Record<string, number> =>
  Object.fromEntries(Object.entries(row).filter(([, value]) => Number.isFinite(value)))

function lossMetrics(pairs: PairStats[], objective: ObjectiveSpec): Record<string, number> {
  const traits = objectives[objective.name]
  return {
    loss: mean(pairs, (pair) => pair.loss),
    ...rewards(compared(pairs, traits.prefers), 'rewards', objective, traits.prefers ?? alone),
    ...(traits.prefers && margins(compared(pairs, traits.prefers), 'rewards', ({ margin }) => margin)),
    ...(traits.visual && {
      ...rewards(onTwins(pairs, traits.visual), 'rewards/visual', objective, traits.visual),
      ...margins(onTwins(pairs, traits.visual), 'rewards/visual', ({ visualMargin }) => visualMargin),
    }),
    'logps/chosen': mean(pairs, (pair) => pair.policy.chosen),
    'logps/rejected': mean(pairs, (pair) => pair.policy.rejected),
    ...terms(pairs, objective),
    ...(pairs.some(({ weight }) => weight !== 1) && { weight: mean(pairs, ({ weight }) => weight) }),
  }
}

/** What is shown of an objective that compares nothing: the rewards of what it runs. */
const alone: Comparison = { chosen: 'chosen', rejected: 'rejected' }

const onImage: Record<Sequence, Sequence> = {
  chosen: 'chosen',
  rejected: 'rejected',
  corruptedChosen: 'chosen',
  corruptedRejected: 'rejected',
}

/** The sequence itself, or that on the image where a pair has no twin. */
const runOf = ({ policy }: PairStats, side: Sequence): Sequence =>
  Number.isFinite(policy[side]) ? side : onImage[side]

const onTwins = (pairs: PairStats[], { chosen, rejected }: Comparison): PairStats[] =>
  pairs.filter(({ policy }) => Number.isFinite(policy[chosen] + policy[rejected]))

/** Without the pairs that have nothing to compare. */
function compared(pairs: PairStats[], prefers: Comparison | null): PairStats[] {
  if (!prefers) return pairs
  return pairs.filter((pair) => {
    const [chosen, rejected] = [runOf(pair, prefers.chosen), runOf(pair, prefers.rejected)]
    return Number.isFinite(pair.policy[chosen] + pair.policy[rejected])
  })
}

function rewards(
  pairs: PairStats[],
  prefix: string,
  { beta = rewardScale }: Coefficients,
  { chosen, rejected }: Comparison,
): Record<string, number> {
  const reward = (pair: PairStats, side: Sequence): number => {
    const run = runOf(pair, side)
    return beta * (pair.policy[run] - pair.reference[run])
  }
  return {
    [`${prefix}/chosen`]: mean(pairs, (pair) => reward(pair, chosen)),
    [`${prefix}/rejected`]: mean(pairs, (pair) => reward(pair, rejected)),
  }
}

const margins = (pairs: PairStats[], prefix: string, margin: (pair: PairStats) => number): Record<string, number> => ({
  [`${prefix}/accuracies`]: mean(pairs, (pair) => (margin(pair) > 0 ? 1 : 0)),
  [`${prefix}/margins`]: mean(pairs, margin),
})

function terms(pairs: PairStats[], objective: ObjectiveSpec): Record<string, number> {
  const { terms: weights, forwardKl, innerKl } = objectives[objective.name]
  const row: Record<string, number> = {}
  for (const [term, weight] of Object.entries(weights) as [LossTerm, (typeof weights)[LossTerm]][]) {
    row[`loss/${term}`] = termWeight(weight, objective) * mean(pairs, (pair) => pair.weight * pair[term])
  }
  if (innerKl || forwardKl !== null) row['kl/forward'] = mean(pairs, (pair) => pair.forwardKl)
  if (innerKl) row['kl/rejected'] = mean(pairs, (pair) => pair.rejectedForwardKl)
  if (forwardKl !== null) {
    const share = forwardKl === 'lambda' ? Number(objective.lambda) : forwardKl
    const mixed = (pair: PairStats): number => weighted(share, pair.forwardKl) + weighted(1 - share, pair.reverseKl)
    row['kl/reverse'] = mean(pairs, (pair) => pair.reverseKl)
    row['kl/mixed'] = mean(pairs, mixed)
    row['loss/kl'] = Number(objective.alpha) * mean(pairs, (pair) => pair.weight * mixed(pair))
  }
  return row
}

/** A direction with no weight may not have been computed (NaN); it must not spoil the sum. */
function weighted(weight: number, value: number): number {
  return weight === 0 ? 0 : weight * value
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0)
}

function mean<T>(items: readonly T[], value: (item: T) => number): number {
  return sum(items, value) / items.length
}
