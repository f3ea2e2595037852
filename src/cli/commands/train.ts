import type { TrainProgress, TrainReport } from '../../train/train.js'
import { defineCommand } from '../command.js'
import { formatBytes } from '../format.js'
import { describePlan } from '../plan.js'
import { formatDuration } from '../progress.js'
import { catchSignals } from '../signals.js'

export const train = defineCommand({
  usage: 'train <config>',
  summary: 'Train a LoRA adapter on preference pairs',
  options: (parser) =>
    parser
      .positional('config', { type: 'string', demandOption: true, describe: 'YAML file with the training settings' })
      .option('set', {
        type: 'string',
        array: true,
        nargs: 1,
        default: [] as string[],
        describe: 'Override a setting: --set optimizer.lr=1e-5 (repeatable; stronger than the file)',
      })
      .option('dry-run', {
        type: 'boolean',
        default: false,
        describe: 'Check everything, print the plan, train nothing',
      })
      .option('resume', { type: 'boolean', describe: 'Go on from the newest checkpoint of the output' })
      .option('overwrite', { type: 'boolean', describe: 'Replace an earlier run in the output folder' })
      .conflicts('resume', 'overwrite')
      .example('$0 train slake.yaml --dry-run', 'steps, tokens and memory of the run')
      .example('$0 train slake.yaml --set objective.gamma=0', 'the ablation without the visual term'),
  async run(options, { stdout, stderr, progress }) {
    const { formatConfig, loadTrainConfig } = await import('../../config/load.js')
    const config = await loadTrainConfig(options.config, options.set)
    stderr(`${formatConfig(config)}\n`)
    const onLog = (line: string): void => progress.log(line)
    if (options.dryRun) {
      const { planTraining } = await import('../../train/plan.js')
      stdout(describePlan(await planTraining(config, { onLog })))
      return 0
    }
    const { train: runTraining } = await import('../../train/train.js')
    using stop = catchSignals((name) => progress.log(`${name}: finishing this step and saving; again to leave at once`))
    const { resume, overwrite } = options
    const onStart = ({ step, totalSteps }: { step: number; totalSteps: number }): void => {
      progress.start('training', totalSteps, 'steps')
      if (step > 0) progress.update(step)
    }
    const onProgress = (event: TrainProgress): void => {
      const shown = event.step % config.logEvery === 0 || event.step === event.totalSteps
      progress.update(event.step, shown ? describeStep(event) : undefined)
    }
    const report = await runTraining(config, { resume, overwrite, stop: stop.signal, onLog, onStart, onProgress })
    progress.end()
    stdout(describeReport(report, options.config))
    return report.interrupted ? (stop.exitCode ?? 1) : 0
  },
})

function describeStep({ metrics }: TrainProgress): string {
  const parts = [`loss ${metrics.loss.toFixed(4)}`]
  if (metrics['rewards/accuracies'] !== undefined) parts.push(`accuracy ${metrics['rewards/accuracies'].toFixed(2)}`)
  if (metrics['rewards/margins'] !== undefined) parts.push(`margin ${metrics['rewards/margins'].toFixed(3)}`)
  return parts.join(', ')
}

function describeReport(report: TrainReport, configPath: string): string {
  if (report.interrupted) {
    return [
      `stopped after step ${report.step} of ${report.totalSteps}; saved ${report.checkpoint}`,
      `go on with: fire-train train ${configPath} --resume`,
      '',
    ].join('\n')
  }
  const steps = report.step - report.resumedFrom
  return [
    `${steps} steps in ${formatDuration(report.seconds)}, at most ${formatBytes(report.peakHostBytes)} of memory`,
    `adapter: ${report.adapter}`,
    '',
  ].join('\n')
}
