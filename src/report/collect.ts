/** A report from what the stages of a run left on disk. Each part of the page is there when its files are. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { z } from 'zod'
import { decodeImage } from '../data/images.js'
import { readJsonl } from '../data/jsonl.js'
import { type Pair, pair as pairRecord } from '../data/records.js'
import { asFileError, DataError, guarded } from '../errors.js'
import { evaluationFiles } from '../evaluate/files.js'
import { type ProbedQuestion, probedQuestion } from '../evaluate/grounding.js'
import { hiddenAnswers } from '../evaluate/hidden.js'
import { checkOptions } from '../options.js'
import { loadPicture } from '../page/picture.js'
import { spread } from '../page/spread.js'
import type { PairReport } from '../pairs/index.js'
import { readResolvedConfig } from '../train/config.js'
import { objectiveName, shownObjective } from '../train/page/objective.js'
import { runFiles } from '../train/run-folder.js'
import { readMetrics } from '../train/run-log.js'
import type { TrainReport } from '../train/train-report.js'
import { chooseChanged, choosePairs, chooseProbes } from './choose.js'
import { describeAttention, describeRun, type Evaluation, summarise, type Training } from './describe.js'
import { roundFiles } from './round-files.js'
import { comparedRounds, readRounds } from './rounds.js'
import { refuseOtherRun } from './same-run.js'
import type { AttentionExample, ExamplePair, HiddenExample, ReportData, RoundSummary, StageTime } from './types.js'

/** Where things lie; whatever a run did not make is left out. */
export interface ReportSources {
  /** Pair records, with corrupted twins or without. */
  pairs?: string
  /** What the construction of the pairs says of them. */
  pairsReport?: string
  /** metrics.jsonl of a training run. */
  metrics?: string
  /** Folder of an evaluation. */
  evaluation?: string
  /** Folders of the rounds of a pipeline, in their order. */
  rounds?: readonly string[]
}

/** What a page says that is not in the files. */
export interface ReportOptions {
  title: string
  /** Sentences under the headline, before those that the numbers make. */
  notes: readonly string[]
  /** Finished stages with their wall time. */
  stages: StageTime[]
}

const shown = { pairs: 6, hidden: 3, attention: 4, changed: 8 }

/**
 * Reads what the stages of a run left on disk, for `renderReport`.
 * @throws {FileError} when a file cannot be read.
 * @throws {DataError} for files that are not what a stage of this version leaves.
 * @throws {CheckpointError} when the evaluation is of another run's adapter.
 */
export async function collectReport(sources: ReportSources, options: ReportOptions): Promise<ReportData> {
  const known = { pairs: true, pairsReport: true, metrics: true, evaluation: true, rounds: true } as const
  checkOptions('collectReport, sources', sources, known)
  checkOptions('collectReport', options, { title: true, notes: true, stages: true })
  const pairs = sources.pairs === undefined ? [] : await readAll(sources.pairs, pairRecord)
  const made = sources.pairsReport === undefined ? null : await readJson<PairReport>(sources.pairsReport)
  const training = sources.metrics === undefined ? null : await readTraining(sources.metrics)
  const evaluation = sources.evaluation === undefined ? null : await readEvaluation(sources.evaluation)
  if (training && evaluation) {
    const { metrics = '', evaluation: folder = '' } = sources
    await refuseOtherRun(metrics, training.report, folder, evaluation.results)
  }
  const objective = training ? shownObjective(training.config) : null
  const root = dirname(sources.pairs ?? '')
  const rounds = (sources.rounds ?? []).map((folder) => basename(folder))
  const found = { pairs, made, training, evaluation, rounds }
  const examples: ExamplePair[] = []
  for (const pair of choosePairs(pairs, shown.pairs)) examples.push(await examplePair(pair, root))
  const attention: AttentionExample[] = []
  for (const probe of chooseProbes(evaluation?.probed ?? [], shown.attention)) {
    attention.push(await attentionExample(probe, sources.evaluation ?? ''))
  }
  return {
    title: objective === null ? options.title : `${options.title}: ${objectiveName(objective.name)}`,
    summary: [...options.notes, ...summarise(found)],
    objective,
    rounds: evaluation ? comparedRounds(evaluation.results) : null,
    judge: evaluation?.results.judging.description ?? '',
    metrics: training?.metrics ?? [],
    trainedRounds: await Promise.all((sources.rounds ?? []).map(summariseRound)),
    pairs: made?.statistics ?? null,
    limits: made?.limits ?? null,
    examples,
    hidden: evaluation ? await hiddenAnswersOf(evaluation, sources.evaluation ?? '') : { results: [], examples: [] },
    attention,
    attentionNote: describeAttention(evaluation?.results.attention ?? null),
    changed: evaluation ? chooseChanged(evaluation.before, evaluation.after, shown.changed) : [],
    facts: describeRun(found),
    stages: options.stages,
    config: training?.yaml ?? null,
  }
}

async function summariseRound(folder: string): Promise<RoundSummary> {
  const [report, metrics] = roundFiles(folder)
  const made = existsSync(report) ? await readJson<PairReport>(report) : null
  const all = existsSync(metrics) ? await readMetrics(metrics) : []
  const rows = all.filter(({ loss }) => loss !== undefined)
  const settled = rows.slice(Math.floor(rows.length / 2)).map((row) => row['rewards/accuracies'])
  const values = settled.filter((value) => Number.isFinite(value))
  const accuracy = values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length
  return {
    name: basename(folder),
    pairs: made?.statistics ?? null,
    training: rows.length === 0 ? null : { steps: rows.length, accuracy },
  }
}

/**
 * A complete training run. @param metrics its metrics.jsonl.
 * @throws {FileError} when it is not complete.
 */
export async function readTraining(metrics: string): Promise<Training> {
  const folder = dirname(metrics)
  // First, so that a wrong path is named as it was given.
  const rows = await readMetrics(metrics)
  const config = join(folder, runFiles.config)
  const yaml = await readText(config)
  return {
    config: await readResolvedConfig(config),
    yaml,
    report: await readJson<TrainReport>(join(folder, runFiles.report)),
    metrics: rows,
  }
}

async function readEvaluation(folder: string): Promise<Evaluation> {
  const at = (name: keyof typeof evaluationFiles): string => join(folder, evaluationFiles[name])
  return {
    ...(await readRounds(folder)),
    probed: await readAll(at('attention'), probedQuestion),
    hidden: await readAll(at('hidden'), hiddenAnswers),
  }
}

async function readAll<S extends z.ZodType>(path: string, schema: S): Promise<z.output<S>[]> {
  const records: z.output<S>[] = []
  for await (const { record } of readJsonl(path, schema)) records.push(record)
  return records
}

const readText = (path: string): Promise<string> => readFile(path, 'utf8').catch(asFileError('Reading', path))

/** For files of our own, whose stage is done. */
async function readJson<T>(path: string): Promise<T> {
  const text = await readText(path)
  return guarded(
    () => JSON.parse(text) as T,
    (reason, cause) => new DataError(`${path} is not JSON: ${reason}`, { cause }),
  )
}

async function examplePair(pair: Pair, root: string): Promise<ExamplePair> {
  const { corrupted, images, edits } = pair
  const [image, twin] = [images[0], corrupted?.images[0]]
  // Masks are those of the images that have one: which belongs to the first is certain when all have.
  const masked = corrupted && corrupted.masks.length === images.length ? corrupted.masks[0] : undefined
  const mask = masked === undefined ? null : await readMask(join(root, masked))
  return {
    question: pair.prompt,
    origin: pair.origin,
    chosen: { text: pair.chosen, spans: edits.map((edit) => edit.chosen) },
    rejected: { text: pair.rejected, spans: edits.map((edit) => edit.rejected) },
    categories: [...new Set(edits.map((edit) => edit.category))],
    clean: image ? await loadPicture(image, root, mask) : null,
    corrupted: twin ? await loadPicture(twin, root, mask) : null,
    corruption: corrupted ? { method: corrupted.method, sigma: corrupted.sigma } : null,
  }
}

async function attentionExample(probe: ProbedQuestion, folder: string): Promise<AttentionExample> {
  const { question, answer, span, image, before, after, ratios } = probe
  const picture = await loadPicture(image, folder, await readMask(join(folder, probe.mask)))
  return { question, answer: { text: answer, span }, picture, before, after, ratios }
}

/** A few questions, each hidden in every way. */
async function hiddenAnswersOf({ results, hidden }: Evaluation, folder: string): Promise<ReportData['hidden']> {
  const chosen = spread([...new Set(hidden.map(({ sampleId }) => sampleId))], shown.hidden)
  const examples: HiddenExample[] = []
  for (const id of chosen) {
    const lines = hidden.filter(({ sampleId }) => sampleId === id)
    const { question, reference, image, mask, visible } = lines[0]
    const inside = await readMask(join(folder, mask))
    const example: HiddenExample = {
      question,
      reference,
      visible: { picture: await loadPicture(image, folder, inside), answers: visible },
      hidden: [],
    }
    for (const { method, twin, hidden: answers } of lines) {
      const sigma = results.hidden.find((each) => each.method === method)?.sigma ?? 0
      example.hidden.push({ method, sigma, picture: await loadPicture(twin, folder, inside), answers })
    }
    examples.push(example)
  }
  return { results: results.hidden, examples }
}

/** A grey picture as one byte a pixel. */
async function readMask(path: string): Promise<Uint8Array> {
  const { rgb } = await decodeImage(path)
  return rgb.filter((_, index) => index % 3 === 0)
}
