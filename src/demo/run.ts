/**
 * The whole method on a model and a world small enough for a laptop: ask, judge, edit, corrupt, train, ask again, report.
 * Training goes through the same `train` and the same kind of configuration as `fire-train train`, so the folder this
 * leaves behind is also an example of one.
 */
import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { recordSeed } from '../corrupt/index.js'
import { writeFileAtomic } from '../data/files.js'
import { type Device, type Engine, type NativeModule, type ObjectiveName, openEngine } from '../engine/engine.js'
import { DataError, expected } from '../errors.js'
import type { GroupComparison, JudgedAnswer } from '../evaluate/index.js'
import type { GenerateSettings } from '../generate/generate.js'
import { headline, type MetricsRow, percent, renderReport } from '../report/index.js'
import { Chat } from '../text/chat.js'
import { formatConfig, resolveTrainConfig } from '../train/config.js'
import type { TrainConfig } from '../train/settings.js'
import { train } from '../train/train.js'
import { version } from '../version.js'
import { type DemoData, type DemoItem, makeData } from './dataset.js'
import { DEMO_SETTINGS, type DemoSettings, QUICK_SETTINGS } from './defaults.js'
import { askAll, type DemoModel, evaluateRound } from './evaluation.js'
import { type DemoFolder, prepareFolder } from './folder.js'
import { makePreferences, type Preferences, repeatItems } from './preferences.js'
import { type ProbedQuestion, probeQuestions } from './probe.js'
import { type DemoProgress, Stages } from './stages.js'
import { compareFindings, reportData, resultsJson } from './summary.js'

/** The model that comes with the package. */
const BUNDLED_MODEL = fileURLToPath(new URL('../../models/phantom', import.meta.url))

export interface DemoOptions {
  /** Folder to write; made when missing, refused when it holds something else. */
  out: string
  /** Of the world, the sampled answers, the edits, the noise, the adapter and the order of pairs. */
  seed?: number
  objective?: ObjectiveName
  /** A look at every stage; too small to conclude from. */
  quick?: boolean
  /** Another model of the same world. */
  model?: string
  /** 0 = all this process may use; results do not depend on it. */
  /** Default: cpu. */
  device?: Device
  threads?: number
  /** Departures from `DEMO_SETTINGS`. */
  settings?: Partial<DemoSettings>
}

export interface DemoContext {
  signal?: AbortSignal
  progress: DemoProgress
  /** Another implementation of the addon's interface. */
  native?: NativeModule
}

export interface DemoResult {
  report: string
  results: string
  comparisons: GroupComparison[]
  /** The report's headline and its detail. */
  conclusion: string
  detail: string
  seconds: number
}

/**
 * Runs the demo. The same seed gives the same numbers on the same device.
 *
 * @throws FileError when `out` holds something that no demo wrote.
 * @throws AbortedError naming the stage when the signal fires; files of finished stages stay and are complete.
 */
export async function runDemo(options: DemoOptions, context: DemoContext): Promise<DemoResult> {
  return new Demo(options, context).run()
}

class Demo {
  readonly #seed: number
  readonly #quick: boolean
  readonly #objective: ObjectiveName
  readonly #settings: DemoSettings
  readonly #model: string
  readonly #device: Device
  readonly #threads: number
  readonly #out: string
  readonly #context: DemoContext
  readonly #stages: Stages
  readonly #started = new Date()

  constructor(options: DemoOptions, context: DemoContext) {
    this.#seed = options.seed ?? 0
    if (!Number.isSafeInteger(this.#seed) || this.#seed < 0) throw expected('a safe integer >= 0', 'seed', this.#seed)
    this.#quick = options.quick ?? false
    this.#objective = options.objective ?? 'fire'
    this.#settings = { ...DEMO_SETTINGS, ...(this.#quick && QUICK_SETTINGS), ...options.settings }
    this.#model = options.model ?? BUNDLED_MODEL
    this.#device = options.device ?? 'cpu'
    this.#threads = options.threads ?? 0
    this.#out = options.out
    this.#context = context
    this.#stages = new Stages(context.progress, context.signal)
  }

  async run(): Promise<DemoResult> {
    const folder = await prepareFolder(this.#out, {
      version,
      seed: this.#seed,
      objective: this.#objective,
      settings: this.#settings,
      started: this.#started.toISOString(),
    })
    try {
      const data = await this.#makeData(folder)
      const asked = await this.#askModel(folder, data)
      const trained = await this.#train(folder)
      const answered = await this.#askTrained(folder, data, trained.adapter, asked.before)
      return await this.#conclude(folder, data, { ...asked, ...trained, ...answered })
    } catch (error) {
      throw this.#stages.explain(error)
    }
  }

  #makeData(folder: DemoFolder): Promise<DemoData> {
    const { trainStudies, testStudies } = this.#settings
    return this.#stages.run(
      'Making radiographs',
      { total: trainStudies + testStudies, unit: 'studies' },
      (update) => makeData(folder, { seed: this.#seed, trainStudies, testStudies }, update),
      ({ train, test }) => `${train.length} training and ${test.length} held-out questions`,
    )
  }

  /** The round before, and the pairs from the model's own answers: both come from the model as it is. */
  async #askModel(folder: DemoFolder, data: DemoData): Promise<{ before: JudgedAnswer[] } & Preferences> {
    await using engine = await this.#open(null)
    const model = await this.#demoModel(engine, folder)
    const before = await this.#evaluate('Answering the held-out questions', model, folder.before, data.test, false)
    const items = repeatItems(data.train, this.#settings.samplesPerQuestion)
    const responses = await this.#stages.run(
      'Sampling own answers',
      { total: items.length, unit: 'answers' },
      (update) => askAll(model, items, this.#sampling(), update),
    )
    const preferences = await this.#stages.run(
      'Building pairs',
      { total: responses.length, unit: 'answers' },
      (update) => makePreferences(items, responses, { folder, settings: this.#settings, seed: this.#seed }, update),
      ({ statistics: { pairs, byOrigin } }) =>
        `${pairs} pairs, ${byOrigin.repaired} repaired and ${byOrigin.counterfactual} counterfactual`,
    )
    if (preferences.pairs.length === 0) {
      throw new DataError('No answer of the model became a pair', { hint: `See ${folder.responses} for what it said.` })
    }
    return { before, ...preferences }
  }

  async #train(folder: DemoFolder): Promise<{ adapter: string; metrics: MetricsRow[]; config: TrainConfig }> {
    const config = this.#trainConfig(folder)
    const { signal, native, progress } = this.#context
    const steps = Math.ceil((await countLines(folder.pairs)) / config.batchSize) * config.epochs
    const report = await this.#stages.run(
      'Training',
      { total: steps, unit: 'steps' },
      (update) =>
        train(config, {
          signal,
          native,
          overwrite: true,
          onLog: (line) => line.startsWith('warning') && progress.log(line),
          onProgress: ({ step, metrics }) => update(step, `loss ${metrics.loss.toFixed(4)}`),
        }),
      ({ last }) => (last ? `loss ${last.loss.toFixed(4)}` : ''),
    )
    if (report.adapter === null) throw new DataError(`Training left no adapter in ${config.output}`)
    return { adapter: report.adapter, metrics: await readMetrics(config.output), config }
  }

  async #askTrained(
    folder: DemoFolder,
    data: DemoData,
    adapter: string,
    before: JudgedAnswer[],
  ): Promise<{ after: JudgedAnswer[]; probed: ProbedQuestion[]; model: Engine['info'] }> {
    await using engine = await this.#open(adapter)
    const model = await this.#demoModel(engine, folder)
    const after = await this.#evaluate('Answering them again', model, folder.after, data.test, true)
    const limit = this.#settings.attentionQuestions
    const probed = await this.#stages.run('Probing attention', { total: limit, unit: 'questions' }, (update) =>
      probeQuestions(model, data.test, { before, after }, { seed: this.#seed, limit }, update),
    )
    return { after, probed, model: engine.info }
  }

  async #conclude(
    folder: DemoFolder,
    data: DemoData,
    found: Preferences & {
      before: JudgedAnswer[]
      after: JudgedAnswer[]
      metrics: MetricsRow[]
      probed: ProbedQuestion[]
      model: Engine['info']
      config: TrainConfig
    },
  ): Promise<DemoResult> {
    const findings = {
      ...found,
      folder,
      ...data,
      seed: this.#seed,
      quick: this.#quick,
      objective: this.#objective,
      settings: this.#settings,
      modelName: basename(this.#model),
      started: this.#started,
      stages: this.#stages.done,
      config: formatConfig(found.config),
    }
    const comparisons = compareFindings(findings)
    await writeFileAtomic(folder.results, `${JSON.stringify(resultsJson(findings, comparisons), null, 2)}\n`)
    await writeFileAtomic(folder.report, renderReport(await reportData(findings, comparisons)))
    const { title, detail } = headline(comparisons[0])
    const seconds = this.#stages.done.reduce((sum, stage) => sum + stage.seconds, 0)
    return { report: folder.report, results: folder.results, comparisons, conclusion: title, detail, seconds }
  }

  #open(adapter: string | null): Promise<Engine> {
    const { signal, native } = this.#context
    return openEngine(
      { model: this.#model, adapter, device: this.#device, threads: this.#threads, dtype: this.#settings.dtype },
      { signal, native },
    )
  }

  async #demoModel(engine: Engine, { root }: DemoFolder): Promise<DemoModel> {
    const chat = await Chat.load(this.#model, engine.info)
    return { engine, chat, imageRoot: root, name: basename(this.#model), signal: this.#context.signal }
  }

  #evaluate(
    name: string,
    model: DemoModel,
    path: string,
    items: DemoItem[],
    adapter: boolean,
  ): Promise<JudgedAnswer[]> {
    const { maxNewTokens, generationBatch } = this.#settings
    const settings = { maxNewTokens, batchSize: generationBatch, adapter }
    return this.#stages.run(
      name,
      { total: items.length, unit: 'questions' },
      (update) => evaluateRound(model, items, { settings, path }, update),
      (judged) => `${percent(judged.filter((answer) => answer.correct).length / judged.length)} % right`,
    )
  }

  #sampling(): GenerateSettings {
    const { maxNewTokens, temperature, topP, generationBatch } = this.#settings
    // Question k adds k to the seed: starts far apart keep the answers of two runs independent.
    const seed = recordSeed('own answers', this.#seed) % 2 ** 52
    return { maxNewTokens, temperature, topP, topK: 0, batchSize: generationBatch, seed, adapter: false }
  }

  /** Coefficients are left to the schema: its defaults are the published ones. */
  #trainConfig(folder: DemoFolder): TrainConfig {
    const { loraRank, loraAlpha, loraDropout, rslora, learningRate, batchSize, epochs, dtype } = this.#settings
    return resolveTrainConfig({
      model: this.#model,
      data: { train: folder.pairs },
      output: folder.training,
      seed: this.#seed,
      dtype,
      device: this.#device,
      threads: this.#threads,
      lora: { rank: loraRank, alpha: loraAlpha, dropout: loraDropout, rslora },
      objective: { name: this.#objective },
      optimizer: { lr: learningRate },
      epochs,
      batchSize,
      checkpoint: { every: 0 },
    })
  }
}

async function countLines(path: string): Promise<number> {
  return (await readFile(path, 'utf8')).split('\n').length - 1
}

async function readMetrics(output: string): Promise<MetricsRow[]> {
  const text = await readFile(join(output, 'metrics.jsonl'), 'utf8')
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as MetricsRow)
}
