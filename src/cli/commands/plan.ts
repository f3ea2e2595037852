import { resolve } from 'node:path'
import { z } from 'zod'
import { compute } from '../../settings/common.js'
import { checkTree } from '../../settings/file.js'
import type { TrainPlan } from '../../train/plan.js'
import type { TrainConfig } from '../../train/settings.js'
import { defineCommand } from '../command.js'
import { addFile, addFlags, readFlags } from '../flags.js'
import { formatBytes, formatTable } from '../format.js'
import { describeWork, memoryRows } from '../plan.js'

const planSettings = z.strictObject({
  device: compute.device
    .unwrap()
    .optional()
    .meta({ ...compute.device.meta(), description: 'Only for this device' }),
})

export const plan = defineCommand({
  usage: 'plan <model> <config>',
  summary: 'Predict steps and memory of a training run, on a CPU and on a GPU, before anything is loaded',
  options: (parser) =>
    addFile(addFlags(parser, planSettings), 'YAML file with the training settings')
      .positional('model', { type: 'string', demandOption: true, describe: 'Model folder' })
      .option('json', { type: 'boolean', default: false, describe: 'Print one JSON object' }),
  examples: [['plan models/phantom run.yaml', 'with and without checkpointing, cpu and cuda']],
  async run({ model, config: path, set, json, ...options }, { stdout, progress }) {
    const { tree, locate } = readFlags(planSettings, options)
    const { device } = checkTree(planSettings, tree, locate)
    const { loadTrainConfig } = await import('../../train/config.js')
    const { planTraining } = await import('../../train/plan.js')
    const config = await loadTrainConfig(path, [...set, `model=${JSON.stringify(resolve(model))}`])
    const devices = device === undefined ? (['cpu', 'cuda'] as const) : [device]
    const plans: { device: TrainConfig['device']; checkpointing: boolean; plan: TrainPlan }[] = []
    for (const at of devices) {
      for (const checkpointing of [false, true]) {
        const settings = { ...config, device: at, checkpointing }
        const onLog = plans.length === 0 ? (line: string): void => progress.log(line) : undefined
        plans.push({ device: at, checkpointing, plan: await planTraining(settings, { onLog }) })
      }
    }
    if (json) {
      stdout(`${JSON.stringify(plans, null, 2)}\n`)
      return 0
    }
    stdout(`${describeWork(plans[0].plan)}\n`)
    for (const at of devices) {
      const [keep, recompute] = plans
        .filter((entry) => entry.device === at)
        .map((entry) => memoryRows(entry.plan.memory))
      const rows = keep.map(([name, bytes], index) => [name, formatBytes(bytes), formatBytes(recompute[index][1])])
      stdout(`${formatTable([`${at}, ${config.dtype}`, 'memory', 'with checkpointing'], rows)}\n\n`)
    }
    stdout(`${formatBytes(process.availableMemory())} of main memory are free here.\n`)
    return 0
  },
})
