/** What the benchmarks of variants can be told. */
import { z } from 'zod'
import { gemmBackends } from '../engine/engine.js'
import { compute, count, outputPath, text, whole } from '../settings/common.js'
import { benchSizes } from './spec.js'

const shared = {
  size: z
    .enum(benchSizes)
    .default('mid')
    .meta({ description: 'The model to measure, or a tiny one that only shows that everything runs' }),
  dtype: compute.dtype,
  threads: count.default(1).meta({ description: 'Compute threads of every variant' }),
  rounds: count.default(3).meta({ description: 'Timed rounds, after one that warms up' }),
  seed: whole.default(0).meta({ description: 'Seed of model and inputs' }),
  peer: z.boolean().default(true).meta({ description: 'Measure the PyTorch peer; --no-peer leaves it out' }),
  python: text
    .default('python3')
    .meta({ description: 'Interpreter of the peer, with torch, transformers and peft', free: true }),
  out: text.optional().meta(outputPath('File for the results, raw samples included (JSON)')),
}

export const stepBenchSettings = z.strictObject({
  ...shared,
  gemm: z.enum(gemmBackends).default('auto').meta({ description: 'Whose matrix products to use' }),
})

export const generateBenchSettings = z.strictObject({
  ...shared,
  images: count.default(4).meta({ description: 'Images' }),
  questions: count.default(8).meta({ description: 'Questions about each image' }),
  newTokens: count.default(48).meta({ description: 'Tokens of every answer' }),
  batchSize: count.default(32).meta({ description: 'Questions decoded together' }),
})

export type StepBenchSettings = z.output<typeof stepBenchSettings>
export type GenerateBenchSettings = z.output<typeof generateBenchSettings>
