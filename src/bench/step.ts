/**
 * `bench step`: one optimizer step of the objective, ours packed beside ours plain and the PyTorch peer, on the same
 * random model, adapter and pairs. Each variant has its own process; rounds interleave, so that whatever else the machine
 * does falls on all of them alike.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { DType, EngineSpec } from '../engine/engine.js'
import {
  type BenchHooks,
  checkCounts,
  describeCommand,
  type RunFacts,
  type RunOptions,
  runVariants,
  type Variant,
} from './measure.js'
import { writeAdapter, writeModel } from './model.js'
import { writePairs } from './pairs.js'
import { type EngineVariant, optimizer, publishedFire, type StepMessage } from './protocol.js'
import { peerFolder } from './spec.js'
import { type Agreement, compare, type Ratio, ratios, type Series, summarize, type VariantSummary } from './summary.js'

export interface StepBenchOptions extends RunOptions {
  dtype: DType
  gemm: EngineSpec['gemm']
  seed: number
}

export interface StepBenchResult extends RunFacts {
  benchmark: 'step'
  /** The command that measures this again. */
  command: string
  settings: Omit<StepBenchOptions, 'python'> & { objective: typeof publishedFire; optimizer: typeof optimizer }
  agreement: Agreement
  variants: VariantSummary[]
  /** By baseline. */
  ratios: Record<string, Ratio[]>
  series: Series[]
}

/** @throws {ArgumentError} for a count below 1, and what `runVariants` throws. */
export async function benchStep(options: StepBenchOptions, hooks: BenchHooks = {}): Promise<StepBenchResult> {
  const { threads, rounds, seed, dtype } = options
  checkCounts({ threads, rounds })
  const { facts, series } = await runVariants<StepMessage>(options, hooks, {
    inputs: (folder, spec) => ({
      model: () => writeModel(join(folder, 'model'), spec, seed, hooks.signal),
      adapter: () => writeAdapter(join(folder, 'adapter'), spec, seed),
      pairs: () => writePairs(join(folder, 'pairs.safetensors'), spec, seed),
    }),
    variants: (folder, python) => [
      ...ourVariants(folder, options),
      ...(python === undefined ? [] : peerVariants(folder, python, options)),
    ],
  })
  const { python: _, ...settings } = options
  return {
    benchmark: 'step',
    command: describeCommand('step', options),
    ...facts,
    settings: { ...settings, objective: publishedFire, optimizer },
    agreement: compare(series, dtype),
    variants: series.map(summarize),
    ratios: ratios(series),
    series,
  }
}

function inputArguments(folder: string, threads: number): string[] {
  const paths = { model: 'model', adapter: 'adapter', pairs: 'pairs.safetensors' }
  const named = Object.entries(paths).flatMap(([name, path]) => [`--${name}`, join(folder, path)])
  return [...named, '--threads', String(threads)]
}

function ourVariants(folder: string, { dtype, threads, gemm }: StepBenchOptions): Variant[] {
  const worker = fileURLToPath(new URL('./worker.js', import.meta.url))
  const common = [...inputArguments(folder, threads), '--dtype', dtype, '--gemm', gemm]
  const kinds: EngineVariant[] = ['packed', 'cached', 'plain']
  return kinds.map((kind) => ({
    name: `ours-${kind}`,
    command: [process.execPath, worker, ...common, '--variant', kind],
  }))
}

function peerVariants(folder: string, python: string, { dtype, threads }: StepBenchOptions): Variant[] {
  const script = join(peerFolder, 'torch_step.py')
  const common = [...inputArguments(folder, threads), '--dtype', dtype === 'bf16' ? 'bfloat16' : 'float32', '--serve']
  return ['plain', 'lean'].map((kind) => ({
    name: `peer-${kind}`,
    command: [python, script, ...common, '--variant', kind],
  }))
}
