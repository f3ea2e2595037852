import { z } from 'zod'
import { worldOf } from '../../ranks/environment.js'
import { alone } from '../../ranks/ranks.js'
import { duration } from '../../text/duration.js'
import { counted } from '../../text/plural.js'
import { trainStage } from '../../train/stage.js'
import type { TrainReport } from '../../train/train-report.js'
import { defineCommand } from '../command.js'
import { fileSettings, flag } from '../file-settings.js'
import { formatBytes } from '../format.js'
import { describePlan } from '../plan.js'
import { executeStage } from '../stage-command.js'

export const train = defineCommand({
  name: 'train',
  ranks: 'together',
  summary: 'Train a LoRA adapter on preference pairs',
  settings: z.strictObject({
    ...fileSettings,
    dryRun: flag('Check everything, print the plan, train nothing'),
    resume: flag('Go on from the newest checkpoint of the output'),
    overwrite: flag('Replace an earlier run in the output folder'),
  }),
  positionals: ['config'],
  exclusive: [['resume', 'overwrite']],
  file: trainStage.settings,
  examples: [
    ['train slake.yaml --dry-run', 'steps, tokens and memory of the run'],
    ['train slake.yaml --set objective.gamma=0', 'the ablation without the visual term'],
  ],
  async run({ config: path, set, dryRun, ...earlier }, context) {
    const { formatConfig, loadTrainConfig } = await import('../../train/config.js')
    const config = await loadTrainConfig(path, set)
    context.note(`${formatConfig(config)}\n`)
    if (!dryRun) return await executeStage(trainStage, config, earlier, context, { describe })
    const { planTraining } = await import('../../train/plan.js')
    const { rank, size } = worldOf(process.env) ?? alone
    const plan = await planTraining(config, { ranks: size, onLog: (line) => context.progress.log(line) })
    return { text: describePlan(plan), report: plan, isCopy: rank > 0 }
  },
})

function describe(report: TrainReport): string {
  if (report.interrupted) {
    return `stopped after step ${report.step} of ${report.totalSteps}; saved ${report.checkpoint ?? 'nothing yet'}\n`
  }
  const steps = report.step - report.resumedFrom
  const cost = `${duration(report.seconds)}, at most ${formatBytes(report.peakHostBytes)} of memory`
  const left = report.failures ? `left out: ${counted(report.pairs.failed, 'pair')}, ${report.failures}\n` : ''
  const early = report.stoppedEarly ? `stopped early: ${report.stoppedEarly}\n` : ''
  const best = report.best
    ? `best adapter: ${report.best.path} (${report.best.metric} ${Number(report.best.value.toPrecision(4))} after step ${report.best.step})\n`
    : ''
  return `${counted(steps, 'step')} in ${cost}\n${early}${left}adapter: ${report.adapter}\n${best}`
}
