/**
 * `bench generate`: several questions about each of some images, answered greedily with a KV cache; ours with the image
 * shared and not, beside `generate` of transformers on the same random model. Each variant has its own process; rounds
 * interleave.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type BenchHooks, type BenchRun, conduct, type Variant } from './measure.js'
import { writeModel } from './model.js'
import type { GenerateMessage, Measured } from './protocol.js'
import { writeQuestions } from './questions.js'
import { type GenerateBenchSettings, generateBenchSettings } from './settings.js'
import { peerFolder, readSpec } from './spec.js'
import { type Ratio, ratios, type Series, summarize, type VariantSummary } from './summary.js'

/** How many answers are those of the reference, and how many tokens before the first difference. */
export interface AnswerAgreement {
  variant: string
  answers: number
  same: number
  /** Share of the tokens that come before the first difference of their answer. */
  leading: number
}

export interface GenerateBenchResult extends BenchRun {
  /** Of every variant with `ours-shared`. */
  agreement: AnswerAgreement[]
  variants: VariantSummary[]
  /** By baseline. */
  ratios: Record<string, Ratio[]>
  series: Series<Measured>[]
}

/** Throws as `conduct` does. */
export async function benchGenerate(
  settings: GenerateBenchSettings,
  hooks: BenchHooks = {},
): Promise<GenerateBenchResult> {
  const { seed, size, images, questions, peer } = settings
  const spec = await readSpec(size)
  const { series, ...run } = await conduct<GenerateMessage>(
    {
      name: 'generate',
      schema: generateBenchSettings,
      settings: { ...settings, peer: peer ?? 'torch' },
      isPeerNamed: peer !== undefined,
      title: `random ${size} model`,
      inputs: (folder) => ({
        model: () => writeModel(join(folder, 'model'), spec, seed, hooks.signal),
        questions: () => writeQuestions(join(folder, 'questions.safetensors'), spec, { images, questions }, seed),
      }),
      ours: (folder) => ourVariants(folder, settings),
      peer: (folder, python) => [peerVariant(folder, python, settings)],
    },
    hooks,
  )
  return {
    ...run,
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

function inputArguments(folder: string, { threads, newTokens, batchSize }: GenerateBenchSettings): string[] {
  return [
    ...['--model', join(folder, 'model'), '--questions', join(folder, 'questions.safetensors')],
    ...['--threads', String(threads), '--tokens', String(newTokens), '--batch', String(batchSize)],
  ]
}

function ourVariants(folder: string, settings: GenerateBenchSettings): Variant[] {
  const worker = fileURLToPath(new URL('./generate-worker.js', import.meta.url))
  const common = [...inputArguments(folder, settings), '--dtype', settings.dtype]
  return ['shared', 'unshared'].map((kind) => ({
    name: `ours-${kind}`,
    command: [process.execPath, worker, ...common, '--variant', kind],
  }))
}

function peerVariant(folder: string, python: string, settings: GenerateBenchSettings): Variant {
  const dtype = settings.dtype === 'bf16' ? 'bfloat16' : 'float32'
  const script = join(peerFolder, 'torch_generate.py')
  return { name: 'peer', command: [python, script, ...inputArguments(folder, settings), '--dtype', dtype] }
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
