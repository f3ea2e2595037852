/** One row of metrics.jsonl per optimizer step, under the names that TRL's trainers use where it has them. */

import type { ObjectiveSpec, PairStats, SequenceLogps, StepStats } from '../engine/engine.js'
import { objectives } from './objectives.js'

/** Keys with no value in a step (a term the objective lacks, a pair without twin) are left out, never written as NaN. */
export type MetricsRow = { step: number; epoch: number; loss: number } & Record<string, number>

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
}

/**
 * Means over the pairs of the step. `loss/*` are the contributions to `loss`, weights of terms and pairs included, so they
 * add up to it; everything else is without the pairs' weights, whose mean is `weight` where they are not all 1.
 * Rewards are beta * (log pi - log pi_ref) of the scored tokens; an accuracy counts strictly positive margins, so it is
 * 0 while policy and reference are equal. Visual rewards are means over the pairs that have a corrupted twin.
 */
export function metricsRow(parts: StepStats[], objective: ObjectiveSpec, context: StepContext): MetricsRow {
  const pairs = parts.flatMap((part) => part.pairs)
  const row: Record<string, number> = {
    step: context.step,
    epoch: context.epoch,
    loss: mean(pairs, (pair) => pair.loss),
    ...rewards(pairs, 'rewards', objective.beta, 'chosen', 'rejected', (pair) => pair.margin),
    ...visualRewards(pairs, objective),
    'logps/chosen': mean(pairs, (pair) => pair.policy.chosen),
    'logps/rejected': mean(pairs, (pair) => pair.policy.rejected),
    ...terms(pairs, objective),
    ...(pairs.some(({ weight }) => weight !== 1) && { weight: mean(pairs, ({ weight }) => weight) }),
    learning_rate: context.lr,
    grad_norm: context.gradNorm,
    phrase_tokens: sum(pairs, (pair) => pair.chosenTokens + pair.rejectedTokens),
    num_tokens: context.numTokens,
    tokens_per_second: sum(parts, (part) => part.tokens) / context.seconds,
    pairs_per_second: pairs.length / context.seconds,
  }
  return Object.fromEntries(Object.entries(row).filter(([, value]) => Number.isFinite(value))) as MetricsRow
}

function rewards(
  pairs: PairStats[],
  prefix: string,
  beta: number,
  chosen: keyof SequenceLogps,
  rejected: keyof SequenceLogps,
  margin: (pair: PairStats) => number,
): Record<string, number> {
  const reward = (pair: PairStats, side: keyof SequenceLogps): number =>
    beta * (pair.policy[side] - pair.reference[side])
  return {
    [`${prefix}/chosen`]: mean(pairs, (pair) => reward(pair, chosen)),
    [`${prefix}/rejected`]: mean(pairs, (pair) => reward(pair, rejected)),
    [`${prefix}/accuracies`]: mean(pairs, (pair) => (margin(pair) > 0 ? 1 : 0)),
    [`${prefix}/margins`]: mean(pairs, margin),
  }
}

function visualRewards(pairs: PairStats[], objective: ObjectiveSpec): Record<string, number> {
  const { visual } = objectives[objective.name]
  if (!visual) return {}
  const run = pairs.filter((pair) => Number.isFinite(pair.policy[visual.chosen] + pair.policy[visual.rejected]))
  return rewards(run, 'rewards/visual', objective.beta, visual.chosen, visual.rejected, (pair) => pair.visualMargin)
}

function terms(pairs: PairStats[], objective: ObjectiveSpec): Record<string, number> {
  const { visual, forwardKl } = objectives[objective.name]
  const row: Record<string, number> = { 'loss/base': mean(pairs, (pair) => pair.weight * pair.base) }
  if (visual) {
    const weight = visual.weight === 'gamma' ? objective.gamma : visual.weight
    row['loss/visual'] = weight * mean(pairs, (pair) => pair.weight * pair.visual)
  }
  if (objective.name === 'mdpo') row['loss/anchor'] = mean(pairs, (pair) => pair.weight * pair.anchor)
  if (forwardKl !== null) {
    const share = forwardKl === 'lambda' ? objective.lambda : forwardKl
    const mixed = (pair: PairStats): number => weighted(share, pair.forwardKl) + weighted(1 - share, pair.reverseKl)
    row['kl/forward'] = mean(pairs, (pair) => pair.forwardKl)
    row['kl/reverse'] = mean(pairs, (pair) => pair.reverseKl)
    row['kl/mixed'] = mean(pairs, mixed)
    row['loss/kl'] = objective.alpha * mean(pairs, (pair) => pair.weight * mixed(pair))
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
