/** `train`: an adapter from pairs. */
import { join } from 'node:path'
import { imagesNamedIn } from '../data/named.js'
import { refuseUnfit } from '../engine/unfit-adapter.js'
import { TrainingError } from '../errors.js'
import { defineStage } from '../stage/index.js'
import { counted } from '../text/plural.js'
import { checkTrainTree } from './config.js'
import { runFiles } from './run-folder.js'
import { trainSettings } from './settings.js'
import type { TrainProgress } from './train.js'
import type { TrainReport } from './train-report.js'

export const trainStage = defineStage({
  name: 'train',
  summary: 'Train a LoRA adapter on preference pairs',
  settings: trainSettings,
  check: checkTrainTree,
  takes: { 'data.train': 'pairs', 'lora.init': 'adapter' },
  eachRound: true,
  byRank: true,
  out: { setting: 'output', name: '' },
  reads: ({ data: { train, eval: heldOut, images } }) =>
    [train, heldOut].flatMap((path) =>
      path === null ? [] : [{ input: path, files: () => imagesNamedIn(path, images ?? undefined) }],
    ),
  expects: ({ lora: { init } }) => (init === null ? [] : [{ input: init, check: () => refuseUnfit(init) }]),
  makes: ({ data, output, checkpoint }) => ({
    pairs: data.train,
    trainedOn: [data.train],
    adapter: join(output, checkpoint.best === null ? runFiles.adapter : runFiles.best),
    metrics: join(output, runFiles.metrics),
  }),
  leaves: ({ output, checkpoint }) =>
    [runFiles.adapter, runFiles.metrics, ...(checkpoint.best === null ? [] : [runFiles.best])].map((name) =>
      join(output, name),
    ),
  traces: ({ output }) => Object.values(runFiles).map((name) => join(output, name)),
  earlier: ['resume', 'overwrite'],
  async run(config, { signal, ranks, progress, native, resume, overwrite, again }) {
    const { train } = await import('./train.js')
    const report: TrainReport = await train(config, {
      stop: signal,
      ranks,
      native,
      resume,
      overwrite,
      again,
      onLog: (line) => progress.log(line),
      onStart({ step, totalSteps }) {
        progress.start('', totalSteps, 'steps', step)
      },
      onProgress(event) {
        const shown = event.step % config.logEvery === 0 || event.step === event.totalSteps
        progress.update(event.step, shown ? describeStep(event) : undefined, event.metrics)
      },
      onEvaluation: (row) => progress.evaluated?.(row),
    })
    const loss = report.last ? `, loss ${report.last.loss.toFixed(4)}` : ''
    const left = report.failures ? `, ${counted(report.pairs.failed, 'pair')} left out: ${report.failures}` : ''
    const hint = `The adapter and ${config.output}/metrics.jsonl are kept to look into, and marked; lower optimizer.lr or check the data.`
    return {
      interrupted: report.interrupted,
      summary: `${counted(report.step, 'step')}${loss}${left}`,
      report,
      problem: report.problem === null ? undefined : new TrainingError(capitalized(report.problem), { hint }),
    }
  },
})

const capitalized = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)

function describeStep({ metrics }: TrainProgress): string {
  const parts = [`loss ${metrics.loss.toFixed(4)}`]
  if (metrics['rewards/accuracies'] !== undefined) parts.push(`accuracy ${metrics['rewards/accuracies'].toFixed(2)}`)
  if (metrics['rewards/margins'] !== undefined) parts.push(`margin ${metrics['rewards/margins'].toFixed(3)}`)
  if (metrics.engine_time !== undefined) {
    parts.push(`engine ${metrics.engine_time.toFixed(2)} s, waiting for images ${metrics.data_time.toFixed(2)} s`)
    parts.push(`peak ${(metrics.peak_host_bytes / 2 ** 20).toFixed(0)} MiB`)
  }
  return parts.join(', ')
}
