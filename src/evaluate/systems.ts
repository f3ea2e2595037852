/** The systems of an evaluation: who answers, and how their answers become predictions. */
import { join } from 'node:path'
import type { z } from 'zod'
import type { FeatureStoreSettings } from '../data/feature-store.js'
import { readJsonl } from '../data/jsonl.js'
import { response, type Sample } from '../data/records.js'
import type { EngineSpec } from '../engine/engine.js'
import { DataError } from '../errors.js'
import { alone } from '../ranks/ranks.js'
import { type Answerer, failure, namingFirst } from '../sample/answerer.js'
import { failuresPath } from '../sample/files.js'
import { engineAnswerer, sampleAnswers, serverAnswerer } from '../sample/index.js'
import { answerSeed } from '../sample/questions.js'
import type { SampleSettings, serverSettings } from '../sample/settings.js'
import type { StageContext } from '../stage/stage.js'
import { counted } from '../text/plural.js'
import type { Models } from './models.js'
import { predictionOf, readPredictions } from './predictions.js'
import type { Prediction } from './records.js'

/** Who answers. */
export type AnsweringSystem = {
  name: string
} /** `step` of a training run, where the adapter is one of its checkpoints. */ & (
  | { kind: 'model'; model: string; adapter: string | null; step?: number }
  | { kind: 'server'; endpoint: z.input<typeof serverSettings>; cache?: string }
  /** Answers that another program gave, see `readPredictions`. */
  | { kind: 'file'; path: string }
)

/** A model of ours among them. */
export type AnsweringModel = Extract<AnsweringSystem, { kind: 'model' }>

/** What is asked, in what words, and on what. */
export interface Asking {
  /** File of the samples. */
  samples: string
  imageRoot: string
  settings: SampleSettings
  /** Folder for answers that are under way and done. */
  folder: string
  engine: Pick<EngineSpec, 'device' | 'dtype' | 'threads'> & {
    packWeights?: EngineSpec['packWeights']
    store?: FeatureStoreSettings
    batchSize: number
    beyondContext?: boolean
  }
}

/** Where the answers of a system are kept until they are complete, and after. */
export const answersPath = (folder: string, system: string): string => join(folder, `${system}.responses.jsonl`)

/** The likeliest answer alone. */
export const greedyOf = (settings: SampleSettings): SampleSettings => ({
  ...settings,
  ...{ answers: 1, temperature: 0, topP: 1, topK: 0 },
})

/**
 * The answers of a system to the samples, one for each question and number; a question without an answer has a reason. Where a model
 * or a server gives several, number 0 is its greedy answer and the drawn ones follow.
 * @returns undefined when the signal stopped it; what is done is kept. Of several ranks the first has the answers, the others none.
 */
export async function answersOf(
  system: AnsweringSystem,
  samples: readonly Sample[],
  asking: Asking,
  models: Models,
  context: StageContext,
): Promise<Prediction[] | undefined> {
  const { progress, ranks = alone } = context
  if (system.kind === 'file') {
    if (ranks.rank > 0) return []
    const answers = await readPredictions(system.path, samples)
    const missing = samples.filter(({ id }) => answers.get(id)?.size === 0).length
    if (missing === samples.length) throw new DataError(`${system.path} answers none of the questions`)
    if (missing > 0) progress.log(`${unanswered(missing)} in ${system.path}; without one a question counts as wrong`)
    return fromFile(system.name, answers, samples)
  }
  if (asking.settings.answers === 1) return asked(system, samples, asking, models, context)
  // What the model would say, and apart from it what else it might have said.
  const likeliest = { ...asking, settings: greedyOf(asking.settings) }
  const first = await asked(system, samples, likeliest, models, context)
  if (!first) return undefined
  const apart = { ...asking, folder: join(asking.folder, 'sampled') }
  const drawn = await asked(system, samples, apart, models, context)
  return drawn && [...first, ...drawn.map((each) => ({ ...each, k: each.k + 1, sampled: true }))]
}

/** Answers of one way to decode. */
async function asked(
  system: Exclude<AnsweringSystem, { kind: 'file' }>,
  samples: readonly Sample[],
  asking: Asking,
  models: Models,
  { signal, progress, ranks = alone }: StageContext,
): Promise<Prediction[] | undefined> {
  const out = answersPath(asking.folder, system.name)
  const { samples: path, settings } = asking
  const report = await sampleAnswers(
    { samples: path, out, settings },
    await answererOf(system, asking, models, progress),
    {
      signal,
      ranks,
      onStart(done, total) {
        progress.start(system.name, total, 'answers', done)
      },
      onProgress: (done, failed) => progress.update(done, failed > 0 ? `${failed} failed` : undefined),
      onFailure: namingFirst((line) => progress.log(line)),
    },
  )
  if (report.interrupted) return undefined
  if (report.answers === 0) {
    throw new DataError(`${system.name} answered no question`, { hint: `The reasons are in ${report.failures}.` })
  }
  if (report.failures) {
    const rest = 'without one a question counts as wrong; the same command asks again'
    progress.log(`${unanswered(report.failed)}: ${report.failures}; ${rest}`)
  }
  return ranks.rank > 0 ? [] : fromAnswers(system.name, out, samples, settings, report.failures !== null)
}

const unanswered = (count: number): string => `${counted(count, 'question has', 'questions have')} no answer`

async function answererOf(
  system: Exclude<AnsweringSystem, { kind: 'file' }>,
  { imageRoot, settings, engine }: Asking,
  models: Models,
  progress: StageContext['progress'],
): Promise<Answerer> {
  if (system.kind === 'model') {
    const { model, adapter } = system
    const { dtype, batchSize, beyondContext } = engine
    const who = { model, adapter, imageRoot, dtype, batchSize, beyondContext }
    return engineAnswerer({ ...who, engine: await models.engine(system) }, settings)
  }
  const { endpoint, cache } = system
  return serverAnswerer({ endpoint, imageRoot, cache, onLog: (line) => progress.log(line) }, settings)
}

async function fromAnswers(
  system: string,
  path: string,
  samples: readonly Sample[],
  { answers, seed }: SampleSettings,
  hasFailures: boolean,
): Promise<Prediction[]> {
  const seeds = new Map<string, string>()
  for await (const { record } of readJsonl(path, response)) seeds.set(`${record.sampleId}\0${record.seed}`, record.text)
  const reasons = new Map<string, string>()
  if (hasFailures) {
    for await (const { record } of readJsonl(failuresPath(path), failure)) {
      reasons.set(`${record.sampleId}\0${record.seed}`, record.code)
    }
  }
  return samples.flatMap(({ id }) => {
    return Array.from({ length: answers }, (_, k) => {
      const key = `${id}\0${answerSeed(id, k, seed)}`
      return predictionOf(system, id, k, seeds.get(key) ?? null, reasons.get(key) ?? null)
    })
  })
}

/** Every question has as many answers as the one with the most; those that are not in the file are failures, under their number. */
function fromFile(
  system: string,
  answers: ReadonlyMap<string, ReadonlyMap<number, string>>,
  samples: readonly Sample[],
): Prediction[] {
  const last = [...answers.values()].reduce((most, given) => Math.max(most, ...given.keys()), 0)
  return samples.flatMap(({ id }) =>
    Array.from({ length: last + 1 }, (_, k) => {
      const text = answers.get(id)?.get(k)
      const found = predictionOf(system, id, k, text ?? null, text === undefined ? 'not in the file' : null)
      return { ...found, sampled: last > 0 }
    }),
  )
}
