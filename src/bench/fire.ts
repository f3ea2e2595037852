/** `bench step --objective fire`: a random model, adapter and pairs, beside the FiRe-MPO step in PyTorch. */
import { join } from 'node:path'
import type { DType } from '../engine/engine.js'
import { writeAdapter, writeModel } from './model.js'
import { writePairs } from './pairs.js'
import type { StepBenchSettings } from './settings.js'
import { peerFolder, readSpec } from './spec.js'
import type { StepCase } from './step-case.js'
import type { Limits } from './summary.js'

const limits: Record<DType, Limits> = {
  f32: { loss: { absolute: 1e-5 }, grad_norm: { relative: 1e-3 } },
  bf16: { loss: { absolute: 2e-2 }, grad_norm: { relative: 5e-2 } },
}

/** @throws {FileError} where the package came without its `bench` folder. */
export async function fireCase(settings: StepBenchSettings, signal?: AbortSignal): Promise<StepCase> {
  const { size, dtype, seed, twins } = settings
  const spec = await readSpec(size)
  const pairs = settings.pairs ?? spec.pairs.count
  const images = settings.images ?? pairs
  return {
    settings: { ...settings, peer: settings.peer ?? 'torch', pairs, images },
    title: `random ${size} model`,
    model: (folder) => join(folder, 'model'),
    inputs: (folder) => ({
      model: () => writeModel(join(folder, 'model'), spec, seed, signal),
      adapter: () => writeAdapter(join(folder, 'adapter'), spec.config, spec.adapter, seed),
      pairs: () => writePairs(join(folder, 'pairs.safetensors'), spec, { pairs, images, twins }, seed),
    }),
    peers: (python, common) => {
      const script = join(peerFolder, 'torch_step.py')
      const more = ['--dtype', dtype === 'bf16' ? 'bfloat16' : 'float32', '--serve']
      return ['plain', 'lean'].map((kind) => ({
        name: `peer-${kind}`,
        command: [python, script, ...common, ...more, '--variant', kind],
      }))
    },
    limits: limits[dtype],
    // The rate is so small that later steps say nothing new.
    everyStep: false,
  }
}
