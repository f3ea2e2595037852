/** A training plan as text. */
import { counted } from '../text/plural.js'
import type { MemoryNeed } from '../train/memory.js'
import type { RankTraffic, TrainPlan } from '../train/plan.js'
import { formatBytes, formatCount } from './format.js'

/** What does not depend on the device. */
export function describeWork(plan: TrainPlan): string {
  return [
    `pairs      ${formatCount(plan.pairs.kept)} of ${formatCount(plan.pairs.read)} read, ${formatCount(plan.images)} distinct images`,
    ...(plan.heldOut > 0 ? [`held out   ${formatCount(plan.heldOut)} pairs, evaluated and not trained on`] : []),
    `steps      ${formatCount(plan.totalSteps)} (${formatCount(plan.stepsPerEpoch)} an epoch, ${plan.warmupSteps} of warm-up)`,
    `tokens     ${formatCount(plan.tokens)} through the decoder, ${formatCount(plan.rows)} rows at the head`,
    `trainable  ${formatCount(plan.trainableParameters)} parameters`,
    ...(plan.ranks ? [describeTraffic(plan.ranks)] : []),
    '',
  ].join('\n')
}

function describeTraffic({ ranks, bytesPerStep, buckets }: RankTraffic): string {
  const parts = counted(buckets, 'part')
  return `ranks      ${ranks}; in each step every one sends ${formatBytes(bytesPerStep)} of gradients and receives as much, in ${parts}`
}

export function describePlan(plan: TrainPlan): string {
  const rows = memoryRows(plan.memory).map(([name, bytes]) => `${name.padEnd(11)}${formatBytes(bytes).padStart(10)}\n`)
  return `${describeWork(plan)}${rows.join('')}`
}

/** Names and bytes, the peaks last. */
export function memoryRows({ images, peak, ...need }: MemoryNeed): [string, number][] {
  const rows: [string, number][] = [
    ['weights', need.weights],
    ['packed', need.packed],
    ['adapter', need.adapter],
    ['optimizer', need.optimizer],
    ['activations', need.activations],
    ['images', images.features + images.pixels],
    ['reference', need.reference],
    ['runtime', need.runtime],
  ]
  if (peak.device > 0) rows.push(['peak, GPU', peak.device])
  rows.push([peak.device > 0 ? 'peak, host' : 'peak', peak.host])
  return rows
}
