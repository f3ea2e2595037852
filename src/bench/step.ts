/**
 * `bench step`: one optimizer step of the objective, ours packed beside ours plain and the PyTorch peer, on the same
 * random model, adapter and pairs. Each variant has its own process; rounds interleave, so that whatever else the machine
 * does falls on all of them alike.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type BenchHooks, type BenchRun, conduct, type Variant } from './measure.js'
import { writeAdapter, writeModel } from './model.js'
import { writePairs } from './pairs.js'
import { type EngineVariant, optimizer, publishedFire, type StepMessage } from './protocol.js'
import { type StepBenchSettings, stepBenchSettings } from './settings.js'
import { peerFolder } from './spec.js'
import { type Agreement, compare, type Ratio, ratios, type Series, summarize, type VariantSummary } from './summary.js'

export interface StepBenchResult extends BenchRun {
  agreement: Agreement
  variants: VariantSummary[]
  /** By baseline. */
  ratios: Record<string, Ratio[]>
  series: Series[]
}

/** Throws as `conduct` does. */
export async function benchStep(settings: StepBenchSettings, hooks: BenchHooks = {}): Promise<StepBenchResult> {
  const { seed, dtype } = settings
  const { series, ...run } = await conduct<StepMessage>(
    {
      name: 'step',
      schema: stepBenchSettings,
      settings,
      inputs: (folder, spec) => ({
        model: () => writeModel(join(folder, 'model'), spec, seed, hooks.signal),
        adapter: () => writeAdapter(join(folder, 'adapter'), spec, seed),
        pairs: () => writePairs(join(folder, 'pairs.safetensors'), spec, seed),
      }),
      ours: (folder) => ourVariants(folder, settings),
      peer: (folder, python) => peerVariants(folder, python, settings),
    },
    hooks,
  )
  return {
    ...run,
    settings: { ...run.settings, objective: publishedFire, optimizer },
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

function ourVariants(folder: string, { dtype, threads, gemm }: StepBenchSettings): Variant[] {
  const worker = fileURLToPath(new URL('./worker.js', import.meta.url))
  const common = [...inputArguments(folder, threads), '--dtype', dtype, '--gemm', gemm]
  const kinds: EngineVariant[] = ['packed', 'cached', 'plain']
  return kinds.map((kind) => ({
    name: `ours-${kind}`,
    command: [process.execPath, worker, ...common, '--variant', kind],
  }))
}

function peerVariants(folder: string, python: string, { dtype, threads }: StepBenchSettings): Variant[] {
  const script = join(peerFolder, 'torch_step.py')
  const common = [...inputArguments(folder, threads), '--dtype', dtype === 'bf16' ? 'bfloat16' : 'float32', '--serve']
  return ['plain', 'lean'].map((kind) => ({
    name: `peer-${kind}`,
    command: [python, script, ...common, '--variant', kind],
  }))
}
