/**
 * `bench generate`: several questions about each of some images, answered greedily with a KV cache; ours with the image
 * shared and not, beside `generate` of transformers on the same random model. Each variant has its own process; rounds
 * interleave.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { DType } from '../engine/engine.js'
import {
  type BenchHooks,
  checkCounts,
  describeCommand,
  type RunFacts,
  type RunOptions,
  runVariants,
  type Variant,
} from './measure.js'
import { writeModel } from './model.js'
import type { GenerateMessage, Measured } from './protocol.js'
import { writeQuestions } from './questions.js'
import { peerFolder } from './spec.js'
import { type Ratio, ratios, type Series, summarize, type VariantSummary } from './summary.js'

export interface GenerateBenchOptions extends RunOptions {
  dtype: DType
  images: number
  /** About each image. */
  questions: number
  newTokens: number
  /** Questions decoded together, by every variant. */
  batchSize: number
  seed: number
}

/** How many answers are those of the reference, and how many tokens before the first difference. */
export interface AnswerAgreement {
  variant: string
  answers: number
  same: number
  /** Share of the tokens that come before the first difference of their answer. */
  leading: number
}

export interface GenerateBenchResult extends RunFacts {
  benchmark: 'generate'
  /** The command that measures this again. */
  command: string
  settings: Omit<GenerateBenchOptions, 'python'>
  /** Of every variant with `ours-shared`. */
  agreement: AnswerAgreement[]
  variants: VariantSummary[]
  /** By baseline. */
  ratios: Record<string, Ratio[]>
  series: Series<Measured>[]
}

/** @throws {ArgumentError} for a count below 1, and what `runVariants` throws. */
export async function benchGenerate(
  options: GenerateBenchOptions,
  hooks: BenchHooks = {},
): Promise<GenerateBenchResult> {
  const { seed, threads, rounds, images, questions, newTokens, batchSize } = options
  checkCounts({ threads, rounds, images, questions, 'new-tokens': newTokens, 'batch-size': batchSize })
  const { facts, series } = await runVariants<GenerateMessage>(options, hooks, {
    inputs: (folder, spec) => ({
      model: () => writeModel(join(folder, 'model'), spec, seed, hooks.signal),
      questions: () => writeQuestions(join(folder, 'questions.safetensors'), spec, { images, questions }, seed),
    }),
    variants: (folder, python) => variants(folder, options, python),
  })
  const { python: _, ...settings } = options
  return {
    benchmark: 'generate',
    command: describeCommand('generate', options),
    ...facts,
    settings,
    agreement: series.map((one) => agreement(one, series[0])),
    variants: series.map(summarize),
    ratios: ratios(series, ['peer', 'ours-unshared']),
    series: series.map((one) => ({
      ...one,
      warmUp: withoutAnswers(one.warmUp),
      samples: one.samples.map(withoutAnswers),
    })),
  }
}

function variants(folder: string, options: GenerateBenchOptions, python: string | undefined): Variant[] {
  const { dtype, threads, newTokens, batchSize } = options
  const common = [
    ...['--model', join(folder, 'model'), '--questions', join(folder, 'questions.safetensors')],
    ...['--threads', String(threads), '--tokens', String(newTokens), '--batch', String(batchSize)],
  ]
  const worker = fileURLToPath(new URL('./generate-worker.js', import.meta.url))
  const ours = ['shared', 'unshared'].map((kind) => ({
    name: `ours-${kind}`,
    command: [process.execPath, worker, ...common, '--dtype', dtype, '--variant', kind],
  }))
  if (python === undefined) return ours
  const script = join(peerFolder, 'torch_generate.py')
  const peerType = dtype === 'bf16' ? 'bfloat16' : 'float32'
  return [...ours, { name: 'peer', command: [python, script, ...common, '--dtype', peerType] }]
}

/** Compares the warm-up rounds; greedy answers do not change from round to round. */
export function agreement(one: Series<GenerateMessage>, reference: Series<GenerateMessage>): AnswerAgreement {
  const [mine, theirs] = [one.warmUp.answers, reference.warmUp.answers]
  const leading = mine.map((answer, k) => {
    const at = answer.findIndex((token, i) => token !== theirs[k]?.[i])
    return at < 0 ? answer.length : at
  })
  return {
    variant: one.variant,
    answers: mine.length,
    same: mine.filter((answer, k) => leading[k] === answer.length && answer.length === theirs[k]?.length).length,
    leading: leading.reduce((sum, count) => sum + count, 0) / theirs.flat().length,
  }
}

function withoutAnswers({ answers: _, ...measured }: GenerateMessage): Measured {
  return measured
}
