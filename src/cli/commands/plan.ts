import { resolve } from 'node:path'
import { z } from 'zod'
import { compute, count, text } from '../../settings/common.js'
import type { TrainPlan } from '../../train/plan.js'
import { type TrainConfig, trainSettings } from '../../train/settings.js'
import { defineCommand } from '../command.js'
import { fileSettings } from '../file-settings.js'
import { formatBytes, formatTable } from '../format.js'
import { describeWork, memoryRows } from '../plan.js'

export const plan = defineCommand({
  name: 'plan',
  ranks: 'each',
  summary: 'Predict steps and memory of a training run, on a CPU and on a GPU, before anything is loaded',
  settings: z.strictObject({
    model: text.meta({ description: 'Model folder' }),
    ...fileSettings,
    device: compute.device
      .unwrap()
      .optional()
      .meta({ ...compute.device.meta(), description: 'Only for this device' }),
    ranks: count
      .max(4096)
      .default(1)
      .meta({ description: 'Processes that train together; memory is then that of one of them', unit: 'ranks' }),
  }),
  positionals: ['model', 'config'],
  file: trainSettings,
  examples: [
    ['plan models/phantom run.yaml', 'with and without checkpointing, cpu and cuda'],
    ['plan models/phantom run.yaml --ranks 8', 'memory of one of 8 ranks, and what goes between them'],
  ],
  async run({ model, config: path, set, device, ranks }, { progress }) {
    const { loadTrainConfig } = await import('../../train/config.js')
    const { planTraining } = await import('../../train/plan.js')
    const config = await loadTrainConfig(path, [...set, `model=${JSON.stringify(resolve(model))}`])
    const devices = device === undefined ? (['cpu', 'cuda'] as const) : [device]
    const plans: { device: TrainConfig['device']; checkpointing: boolean; plan: TrainPlan }[] = []
    for (const at of devices) {
      for (const checkpointing of [false, true]) {
        const settings = { ...config, device: at, checkpointing }
        const onLog = plans.length === 0 ? (line: string): void => progress.log(line) : undefined
        plans.push({ device: at, checkpointing, plan: await planTraining(settings, { onLog, ranks }) })
      }
    }
    const whose = ranks === 1 ? '' : ', a rank'
    const tables = devices.map((at) => {
      const [keep, recompute] = plans
        .filter((entry) => entry.device === at)
        .map((entry) => memoryRows(entry.plan.memory))
      const rows = keep.map(([name, bytes], index) => [name, formatBytes(bytes), formatBytes(recompute[index][1])])
      return formatTable([`${at}, ${config.dtype}${whose}`, 'memory', 'with checkpointing'], rows)
    })
    const free = `${formatBytes(process.availableMemory())} of main memory are free here.`
    return { text: `${[describeWork(plans[0].plan), ...tables, free].join('\n\n')}\n`, report: { plans } }
  },
})
