/**
 * `bench step --objective dpo`: the bundled model, pairs in the words of its world and an adapter that is not zero, beside
 * TRL's own DPOTrainer. Every step is held against TRL's, not only the first.
 */
import { join } from 'node:path'
import type { DType } from '../engine/engine.js'
import { bundledModel, writeBundledAdapter, writeBundledPairs } from './bundled.js'
import { stepSpecs } from './protocol.js'
import type { StepBenchSettings } from './settings.js'
import { peerFolder } from './spec.js'
import type { StepCase } from './step-case.js'
import type { Limits } from './summary.js'

/**
 * A float32 has 24 bits (6e-8 of a number). A log-probability is a difference of logits of some tens, and a sum of a few dozen
 * of them: 1e-5. The margin is beta 0.1 times such sums, the loss half a margin or less: below 1e-6. A gradient adds up many
 * more products, and AdamW, which divides by the root of the second moment, magnifies that from step to step. A bfloat16 has
 * 8 bits (4e-3).
 */
export const dpoLimits: Record<DType, Limits> = {
  f32: {
    loss: { relative: 1e-6 },
    grad_norm: { relative: 1e-4 },
    'logps/chosen': { absolute: 1e-5 },
    'logps/rejected': { absolute: 1e-5 },
    'rewards/margins': { absolute: 2e-6 },
  },
  bf16: {
    loss: { relative: 2e-2 },
    grad_norm: { relative: 5e-2 },
    'logps/chosen': { absolute: 0.1 },
    'logps/rejected': { absolute: 0.1 },
    'rewards/margins': { absolute: 2e-2 },
  },
}

export function dpoCase(settings: StepBenchSettings): StepCase {
  const { dtype, seed, rounds } = settings
  const pairs = settings.pairs ?? 8
  const images = settings.images ?? pairs
  return {
    settings: { ...settings, size: undefined, twins: undefined, peer: settings.peer ?? 'trl', pairs, images },
    title: 'pairs of the bundled model',
    model: () => bundledModel,
    inputs: (folder) => ({
      adapter: () => writeBundledAdapter(folder, seed),
      pairs: () => writeBundledPairs(folder, pairs, images, seed),
    }),
    peers: (python, common, folder) => {
      const { objective, optimizer } = stepSpecs.dpo
      const more = [
        ...['--texts', join(folder, 'texts.json'), '--dtype', dtype === 'bf16' ? 'bfloat16' : 'float32'],
        ...['--beta', String(objective.beta), '--lr', String(optimizer.lr), '--steps', String(rounds + 1)],
      ]
      return [{ name: 'trl', command: [python, join(peerFolder, 'trl_step.py'), ...common, ...more] }]
    },
    limits: dpoLimits[dtype],
    everyStep: true,
  }
}
