/** `train`: an adapter from pairs; the section is a training configuration without what the pipeline knows. */
import { join } from 'node:path'
import { z } from 'zod'
import { checkTrainTree } from '../../config/load.js'
import { isTree } from '../../config/source.js'
import { fingerprint } from '../../train/checkpoint.js'
import { runFiles } from '../../train/run-folder.js'
import { train } from '../../train/train.js'
import { defineStage } from '../stage.js'

/** Their content is hashed, their names change nothing. */
const pathSettings = new Set(['model', 'data.train', 'data.images'])

export const trainStage = defineStage({
  section: 'train',
  // Checked by the trainer's own schema, once what the pipeline adds is there.
  schema: z.record(z.string(), z.unknown()),
  paths: [['model'], ['data', 'train'], ['data', 'images']],
  plan({ tree, given, shared, artifacts, folder, locate, fail }) {
    if (tree.output !== undefined) fail(['output'], 'train.output is the pipeline’s to choose')
    const own = isTree(tree.data) ? tree.data : {}
    if (own.train === undefined && artifacts.pairs === undefined) {
      fail(['data', 'train'], 'train.data.train is missing: no stage makes pairs')
    }
    // What the pipeline's file leaves to defaults is left to the section's preset.
    const { output: _, ...common } = { ...given, model: shared.model }
    const data = { train: artifacts.pairs, ...own }
    const config = checkTrainTree({ ...common, ...tree, data, output: folder }, locate)
    const adapter = join(folder, runFiles.adapter)
    artifacts.pairs = config.data.train
    artifacts.adapter = adapter
    artifacts.training = folder
    const settings = Object.entries(fingerprint(config)).filter(([key]) => !pathSettings.has(key))
    return {
      name: 'train',
      inputs: [config.model, config.data.train],
      settings,
      outputs: [adapter, join(folder, runFiles.metrics)],
      async run({ signal, progress, resume, native }) {
        const report = await train(config, {
          stop: signal,
          native,
          resume,
          overwrite: !resume,
          onLog: (line) => progress.log(line),
          onStart({ step, totalSteps }) {
            progress.start('', totalSteps, 'steps')
            progress.update(step)
          },
          onProgress: ({ step, metrics }) => progress.update(step, `loss ${metrics.loss.toFixed(4)}`),
        })
        const loss = report.last ? `, loss ${report.last.loss.toFixed(4)}` : ''
        return { interrupted: report.interrupted, summary: `${report.totalSteps} steps${loss}` }
      },
    }
  },
})
