import { duration } from '../../report/words.js'
import { trainStage } from '../../train/stage.js'
import type { TrainReport } from '../../train/train.js'
import { defineCommand } from '../command.js'
import { addFile } from '../flags.js'
import { formatBytes } from '../format.js'
import { describePlan } from '../plan.js'
import { executeStage } from '../stage-command.js'

export const train = defineCommand({
  usage: 'train <config>',
  summary: 'Train a LoRA adapter on preference pairs',
  options: (parser) =>
    addFile(parser, 'YAML file with the training settings')
      .option('dry-run', {
        type: 'boolean',
        default: false,
        describe: 'Check everything, print the plan, train nothing',
      })
      .option('resume', { type: 'boolean', describe: 'Go on from the newest checkpoint of the output' })
      .option('overwrite', { type: 'boolean', describe: 'Replace an earlier run in the output folder' })
      .conflicts('resume', 'overwrite'),
  examples: [
    ['train slake.yaml --dry-run', 'steps, tokens and memory of the run'],
    ['train slake.yaml --set objective.gamma=0', 'the ablation without the visual term'],
  ],
  async run(options, context) {
    const { stdout, stderr, progress } = context
    const { formatConfig, loadTrainConfig } = await import('../../train/config.js')
    const config = await loadTrainConfig(options.config, options.set)
    stderr(`${formatConfig(config)}\n`)
    if (options.dryRun) {
      const { planTraining } = await import('../../train/plan.js')
      stdout(describePlan(await planTraining(config, { onLog: (line) => progress.log(line) })))
      return 0
    }
    return await executeStage(trainStage, config, options, context, { describe })
  },
})

function describe(report: TrainReport): string {
  if (report.interrupted) {
    return `stopped after step ${report.step} of ${report.totalSteps}; saved ${report.checkpoint ?? 'nothing yet'}\n`
  }
  const steps = report.step - report.resumedFrom
  const cost = `${duration(report.seconds)}, at most ${formatBytes(report.peakHostBytes)} of memory`
  const left = report.failures ? `left out: ${report.pairs.failed} pairs, ${report.failures}\n` : ''
  return `${steps} steps in ${cost}\n${left}adapter: ${report.adapter}\n`
}
