/** `sample`: the model's own answers to the training questions. */
import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { DataError } from '../../errors.js'
import {
  engineAnswerer,
  type SampleSettings,
  sampleAnswers,
  sampleSettings,
  serverAnswerer,
  serverSettings,
} from '../../sample/index.js'
import { defineStage } from '../stage.js'

const count = z.number().int().positive()

const schema = sampleSettings.extend({
  /** Sample records; default: those of the stage before. */
  samples: z.string().min(1).optional(),
  /** What image paths are relative to; default: the folder of the samples. */
  images: z.string().min(1).optional(),
  /** PEFT folder to answer with. */
  adapter: z.string().min(1).optional(),
  /** Ask a server instead of the engine. */
  endpoint: serverSettings.optional(),
  seed: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER).optional(),
  batchSize: count.default(8),
})

export const sampleStage = defineStage({
  section: 'sample',
  schema,
  paths: [['samples'], ['images'], ['adapter']],
  plan({ settings, shared, artifacts, folder, fail }) {
    const { samples: given, images, adapter, endpoint, batchSize, ...rest } = settings
    const samples = given ?? artifacts.samples ?? fail(['samples'], 'sample.samples is missing: no stage makes samples')
    if (endpoint && adapter) fail(['adapter'], 'sample.adapter is for the engine; a server has its own')
    const asked: SampleSettings = { ...rest, seed: settings.seed ?? shared.seed }
    const out = join(folder, 'responses.jsonl')
    artifacts.samples = samples
    artifacts.responses = out
    return {
      name: 'sample',
      inputs: [samples, ...(endpoint ? [] : [shared.model, ...(adapter ? [adapter] : [])])],
      settings: { asked, ...(endpoint ? { url: endpoint.url, model: endpoint.model } : { dtype: shared.dtype }) },
      outputs: [out],
      async run({ signal, progress, resume, native }) {
        if (!resume) await rm(folder, { recursive: true, force: true })
        const imageRoot = images ?? dirname(samples)
        const answerer = endpoint
          ? serverAnswerer({ endpoint, imageRoot, onLog: (line) => progress.log(line) }, asked)
          : engineAnswerer({ ...shared, adapter: adapter ?? null, batchSize, imageRoot, native }, asked)
        const report = await sampleAnswers({ samples, out, settings: asked }, answerer, {
          signal,
          onStart(done, total) {
            progress.start('', total, 'answers')
            progress.update(done)
          },
          onProgress: (done, failed) => progress.update(done, failed > 0 ? `${failed} failed` : undefined),
        })
        if (report.answers === 0 && !report.interrupted) {
          throw new DataError('no question has an answer', { hint: `The reasons are in ${report.failures}.` })
        }
        const failed = report.failed > 0 ? `, ${report.failed} questions without one: ${report.failures}` : ''
        return { interrupted: report.interrupted, summary: `${report.answers} answers${failed}` }
      },
    }
  },
})
