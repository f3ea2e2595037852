/** What the benchmarks of variants can be told. */
import { z } from 'zod'
import { compute, count, outputPath, text, whole } from '../settings/common.js'
import { benchSizes } from './spec.js'

const shared = {
  size: z
    .enum(benchSizes)
    .default('mid')
    .meta({ description: 'The model to measure, or a tiny one that only shows that everything runs' }),
  dtype: compute.dtype,
  threads: count.default(1).meta({ description: 'Compute threads of every variant', unit: 'threads' }),
  rounds: count.default(3).meta({ description: 'Timed rounds, after one that warms up', unit: 'rounds' }),
  seed: whole.default(0).meta({ description: 'Seed of model and inputs' }),
  python: text
    .default('python3')
    .meta({ description: 'Interpreter of the peer, with torch, transformers and peft', free: true }),
  out: text.optional().meta(outputPath('File for the results, raw samples included (JSON)')),
}

/** `fire` on a random model beside a PyTorch step, `dpo` on the bundled model beside TRL's trainer. */
export const benchObjectives = ['fire', 'dpo'] as const
export type BenchObjective = (typeof benchObjectives)[number]

export const stepBenchSettings = z.strictObject({
  objective: z.enum(benchObjectives).default('fire').meta({
    description: 'fire: on a random model, beside PyTorch; dpo: on the bundled model and its pairs, beside TRL',
  }),
  ...shared,
  size: shared.size.meta({ ...shared.size.meta(), rulesOut: 'objective: dpo' }),
  peer: z
    .enum(['torch', 'trl', 'none'])
    .optional()
    .meta({ description: "What ours is measured beside; default: torch for fire, TRL's own DPOTrainer for dpo" }),
  pairs: count
    .optional()
    .meta({ description: 'Pairs; default: 4 for fire (2 for the small model), 8 for dpo', unit: 'pairs' }),
  images: count.optional().meta({ description: 'Images that the pairs are about; default: one each', unit: 'images' }),
  twins: z.enum(['own', 'shared']).default('own').meta({
    description: 'A corrupted image for every pair, or one for all pairs about an image (their mask is the same)',
    rulesOut: 'objective: dpo',
    needs: 'images',
  }),
  gemm: z.enum(['auto', 'native', 'onednn']).default('auto').meta({ description: 'Whose matrix products to use' }),
})

export const generateBenchSettings = z.strictObject({
  ...shared,
  peer: z
    .enum(['torch', 'none'])
    .optional()
    .meta({ description: 'What ours is measured beside: generate of transformers (default), or nothing' }),
  images: count.default(4).meta({ description: 'Images' }),
  questions: count.default(8).meta({ description: 'Questions about each image', unit: 'questions' }),
  newTokens: count.default(48).meta({ description: 'Tokens of every answer', unit: 'tokens' }),
  batchSize: count.default(32).meta({ description: 'Questions decoded together', unit: 'questions' }),
})

export type StepBenchSettings = z.output<typeof stepBenchSettings>
export type GenerateBenchSettings = z.output<typeof generateBenchSettings>
