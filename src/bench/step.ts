/**
 * `bench step`: one optimizer step of an objective, ours packed beside ours plain and a peer, with the same model, adapter
 * and pairs. Each variant has its own process; rounds interleave, so that whatever else the machine does falls on all of
 * them alike.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ArgumentError } from '../errors.js'
import { dpoCase } from './dpo.js'
import { fireCase } from './fire.js'
import { type BenchHooks, type BenchRun, conduct, type Variant } from './measure.js'
import { type EngineVariant, type StepMessage, stepSpecs } from './protocol.js'
import { type StepBenchSettings, stepBenchSettings } from './settings.js'
import type { StepCase } from './step-case.js'
import {
  type Agreement,
  baselines,
  compare,
  type Ratio,
  ratios,
  type Series,
  summarize,
  type VariantSummary,
} from './summary.js'

export interface StepBenchResult extends BenchRun {
  agreement: Agreement
  variants: VariantSummary[]
  /** By baseline. */
  ratios: Record<string, Ratio[]>
  series: Series[]
}

/** Throws as `conduct` does, and `ArgumentError` for settings that do not go together. */
export async function benchStep(settings: StepBenchSettings, hooks: BenchHooks = {}): Promise<StepBenchResult> {
  const { objective, peer } = settings
  const own = { fire: 'torch', dpo: 'trl' }[objective]
  if (peer !== undefined && peer !== own && peer !== 'none') {
    throw new ArgumentError(`--objective ${objective} is measured beside ${own}, not ${peer}`, {
      hint: `Add --peer ${own} or --peer none, or name the objective of ${peer} with --objective.`,
    })
  }
  const found = objective === 'dpo' ? dpoCase(settings) : await fireCase(settings, hooks.signal)
  if (found.settings.images > found.settings.pairs) {
    throw new ArgumentError(`--images ${found.settings.images} is more than --pairs ${found.settings.pairs}`)
  }
  if (found.settings.twins === 'shared' && found.settings.images === found.settings.pairs) {
    throw new ArgumentError(`--twins has no effect with as many --images as pairs: no two pairs are about one image`)
  }
  return measureCase(found, peer !== undefined, hooks)
}

async function measureCase(found: StepCase, isPeerNamed: boolean, hooks: BenchHooks): Promise<StepBenchResult> {
  const { title, inputs, settings } = found
  const { series, ...run } = await conduct<StepMessage>(
    {
      name: 'step',
      schema: stepBenchSettings,
      title,
      settings,
      isPeerNamed,
      inputs,
      ours: (folder) => ourVariants(found, folder),
      peer: (folder, python) => found.peers(python, sharedArguments(found, folder), folder),
    },
    hooks,
  )
  return {
    ...run,
    settings: { ...run.settings, ...stepSpecs[settings.objective] },
    agreement: compare(series, found.limits, found.everyStep),
    variants: series.map(summarize),
    ratios: ratios(series, baselines),
    series,
  }
}

function sharedArguments({ model, settings }: StepCase, folder: string): string[] {
  return [
    ...['--model', model(folder), '--adapter', join(folder, 'adapter')],
    ...['--pairs', join(folder, 'pairs.safetensors'), '--threads', String(settings.threads)],
  ]
}

function ourVariants(found: StepCase, folder: string): Variant[] {
  const { dtype, gemm, objective, pairs, images } = found.settings
  const worker = fileURLToPath(new URL('./worker.js', import.meta.url))
  const common = [...sharedArguments(found, folder), '--objective', objective, '--dtype', dtype, '--gemm', gemm]
  // With an image for every pair there is nothing to share between them.
  const perPair: EngineVariant[] = images < pairs ? ['pair'] : []
  const kinds: EngineVariant[] = ['packed', ...perPair, 'cached', 'plain']
  return kinds.map((kind) => ({
    name: `ours-${kind}`,
    command: [process.execPath, worker, ...common, '--variant', kind],
  }))
}
