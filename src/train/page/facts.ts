/** What a training ran with and on, in words. */
import { basename } from 'node:path'
import type { ModelInfo } from '../../engine/engine.js'
import { counted } from '../../text/plural.js'
import type { Machine } from '../machine.js'
import type { TrainConfig } from '../settings.js'

/** What a run knows of itself beside its settings. */
export interface RunOn {
  model: ModelInfo
  machine: Machine
  peakHostBytes: number
}

/** Label and value. */
export function describeTraining(config: TrainConfig, { model, machine, peakHostBytes }: RunOn): [string, string][] {
  const { optimizer, batchSize, epochs, maxSteps } = config
  const lora = { ...config.lora, ...model.lora }
  const millions = `${(model.parameters / 1e6).toFixed(2)} M parameters`
  const weights = `${model.weightDTypes.join(' and ')} weights, ${model.dtype} arithmetic`
  const rank = `LoRA rank ${lora.rank}, alpha ${lora.alpha}${lora.rslora ? ', rank-stabilised' : ''}`
  const steps = `learning rate ${optimizer.lr}, ${counted(batchSize, 'pair')} a step, ${counted(epochs, 'epoch')}${maxSteps === null ? '' : `, at most ${counted(maxSteps, 'step')}`}`
  // Of a GPU it says which kernels are taken, of a CPU which instructions.
  const isGpu = model.isa.startsWith('sm_')
  const threads = `${counted(model.threads, 'thread')} of ${machine.cores}${isGpu ? '' : `, ${model.isa}`}`
  const memory = `${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB`
  return [
    ['Seed', String(config.seed)],
    ['Objective', config.objective.name],
    ['Model', `${basename(config.model)} (${model.family}), ${millions}, ${weights}`],
    ['Adapter', `${rank}; ${steps}`],
    ['Machine', `${machine.cpu}, ${threads}, ${memory}, ${machine.platform}`],
    ['Device', isGpu ? `${model.device}, kernels for ${model.isa}` : model.device],
    ['Matrix products', model.gemm],
    ['Peak memory', `${(peakHostBytes / 2 ** 20).toFixed(0)} MiB`],
  ]
}
