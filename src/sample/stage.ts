/** `sample`: a model's own answers to the questions of a sample file, of the engine or of a server. */
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import type { z } from 'zod'
import { featureStore } from '../data/feature-store.js'
import { readJsonl } from '../data/jsonl.js'
import { imagesNamedIn } from '../data/named.js'
import { refuseUnfit } from '../engine/unfit-adapter.js'
import { alone } from '../ranks/ranks.js'
import { seatOf } from '../ranks/seat.js'
import { checkTree, configError, type Locate } from '../settings/file.js'
import type { Tree } from '../settings/source.js'
import { defineStage } from '../stage/index.js'
import { announceRanks } from '../stage/split.js'
import { counted } from '../text/plural.js'
import { failure, namingFirst, noAnswer } from './answerer.js'
import { failuresPath, sampleTraces } from './files.js'
import type { SampleReport } from './sample.js'
import { sampleSettings } from './settings.js'

type Settings = z.output<typeof sampleSettings>

/** Of questions without an answer, one for each answer that is missing. */
async function failedIds(out: string): Promise<string[]> {
  const path = failuresPath(out)
  const ids: string[] = []
  if (existsSync(path)) for await (const { record } of readJsonl(path, failure)) ids.push(record.sampleId)
  return ids
}

/** What a server does not need. */
const engineOnly = [
  'model',
  'adapter',
  'device',
  'dtype',
  'threads',
  'packWeights',
  'batchSize',
  'beyondContext',
  'featureStore',
]

export const sampleStage = defineStage({
  name: 'sample',
  summary: 'Ask a model the questions of a sample file: the answers that pairs are made from',
  settings: sampleSettings,
  check,
  takes: { samples: 'samples', adapter: 'adapter' },
  eachRound: true,
  out: { setting: 'out', name: 'responses.jsonl' },
  makes: ({ samples, out }) => ({ samples, responses: out }),
  leaves: ({ out }) => [out],
  traces: ({ out }) => sampleTraces(out),
  // Not those of questions that have no answer: they are asked again whatever became of their images.
  reads: ({ samples, images, out }) => [
    { input: samples, files: async () => imagesNamedIn(samples, images, new Set(await failedIds(out))) },
  ],
  expects: ({ samples, adapter, endpoint, ...settings }) => [
    {
      input: samples,
      async check() {
        const { countQuestions } = await import('./questions.js')
        await countQuestions(samples, settings)
      },
    },
    ...(adapter === undefined || endpoint ? [] : [{ input: adapter, check: () => refuseUnfit(adapter) }]),
  ],
  ignores: ({ endpoint }) => (endpoint ? engineOnly : []),
  async unfinished({ out }) {
    const failed = (await failedIds(out)).length
    return failed === 0 ? undefined : `${counted(failed, 'question has', 'questions have')} no answer yet`
  },
  earlier: ['overwrite'],
  byRank: true,
  async run(settings, context) {
    const { signal, progress, resume, overwrite, native, ranks } = context
    const { engineAnswerer, sampleAnswers, serverAnswerer } = await import('./index.js')
    const { samples, out, strict, endpoint, model, adapter, dtype, packWeights } = settings
    const { batchSize, beyondContext } = settings
    const imageRoot = settings.images ?? dirname(samples)
    const cache = settings.cache ?? `${out}.cache`
    const { device, threads } = endpoint ? settings : await seatOf(settings, ranks ?? alone, native)
    const answerer = endpoint
      ? serverAnswerer({ endpoint, imageRoot, cache, onLog: (line) => progress.log(line) }, settings)
      : await engineAnswerer(
          {
            ...{ model: model as string, adapter: adapter ?? null, dtype, packWeights },
            ...{ device, threads, batchSize, beyondContext, imageRoot, native },
            featureStore: await featureStore(model as string, settings),
          },
          settings,
        )
    announceRanks(context)
    const report: SampleReport = await sampleAnswers(
      { samples, out, settings, strict, overwrite: overwrite && !resume },
      answerer,
      {
        signal,
        ranks,
        onStart(done, total) {
          progress.start('', total, 'answers', done)
        },
        onProgress: (done, failed) => progress.update(done, failed > 0 ? `${failed} failed` : undefined),
        onFailure: namingFirst((line) => progress.log(line)),
      },
    )
    const failed = report.failed > 0 ? `, ${counted(report.failed, 'question')} without one: ${report.failures}` : ''
    const none = report.answers === 0 && !report.interrupted
    return {
      interrupted: report.interrupted,
      summary: `${counted(report.answers, 'answer')}${failed}`,
      report,
      problem: none ? noAnswer(report.failures) : undefined,
    }
  },
})

function check(tree: Tree, locate: Locate): Settings {
  const settings = checkTree(sampleSettings, tree, locate)
  if (settings.endpoint && settings.adapter) {
    throw configError(
      [
        {
          path: ['adapter'],
          message: 'adapter is for the engine; a server has its own, so a pipeline of several rounds has none to ask',
        },
      ],
      locate,
    )
  }
  if (settings.endpoint || settings.model) return settings
  throw configError([{ path: ['model'], message: 'Give a model, or an endpoint to ask instead' }], locate)
}
