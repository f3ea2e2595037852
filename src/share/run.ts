/** What is known of a model that is shared: its training, the pairs, its evaluation. */
import { existsSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { hashModel } from '../data/files.js'
import { readJsonl } from '../data/jsonl.js'
import { pair } from '../data/records.js'
import { CheckpointError, FileError } from '../errors.js'
import { type EvaluationResults, readEvaluation } from '../evaluate/finished.js'
import { readTraining } from '../report/collect.js'
import type { Training } from '../report/describe.js'
import { runFiles } from '../train/run-folder.js'

/** The pairs of a training, counted. */
export interface PairsAbout {
  pairs: number
  /** Distinct ones. */
  images: number
  questions: number
  byOrigin: Record<string, number>
  /** Edits, not pairs. */
  byCategory: Record<string, number>
  /** Corrupted twins by method and σ: `lesion-noise, σ 45`. */
  twins: Record<string, number>
}

/** Everything that a card says. */
export interface About {
  training: Training
  /** Optimizer steps behind what is shared: fewer than the run had where that is its best adapter. */
  steps: number
  /** Null where the file of the pairs is gone. */
  pairs: PairsAbout | null
  /** Of what is shared and of what it is compared with; null where none is given. */
  evaluation: EvaluationResults | null
}

/**
 * @param folder what is shared; its run is found when it is the run's own adapter. @param run that of any other folder.
 * @throws {FileError} when there is no complete run. @throws {CheckpointError} when the evaluation is of another adapter.
 */
export async function readAbout(
  folder: string,
  run: string | undefined,
  evaluation: string | undefined,
): Promise<About> {
  const isOwn = [runFiles.adapter, runFiles.best].some((name) => name === basename(folder))
  const own = isOwn ? dirname(folder) : undefined
  const place = run ?? own
  if (place === undefined || !existsSync(join(place, runFiles.report))) {
    const what = place === undefined ? `${folder} is in no training run` : `${place} is no complete training run`
    throw new FileError(`${what}, so there is nothing to write its card from`, {
      detail: { path: place ?? folder },
      hint: 'Name the folder that `fire-train train` wrote with --run.',
    })
  }
  const training = await readTraining(join(place, runFiles.metrics))
  const { best, step } = training.report
  const file = training.config.data.train
  return {
    training,
    steps: best && basename(folder) === runFiles.best ? best.step : step,
    pairs: existsSync(file) ? await countPairs(file) : null,
    evaluation: evaluation === undefined ? null : await evaluationOf(folder, evaluation),
  }
}

/**
 * The numbers of one adapter, and of the baseline.
 * @throws {CheckpointError} when they are of another one.
 */
async function evaluationOf(adapter: string, folder: string): Promise<EvaluationResults> {
  const results = await readEvaluation(folder)
  const sha256 = await hashModel(adapter)
  const { baseline, systems, comparisons } = results
  const sent = systems.filter(({ about }) => about.adapterSha256 === sha256).map(({ name }) => name)
  if (sent.length > 0) {
    const isShown = (name: string): boolean => name === baseline || sent.includes(name)
    return {
      ...results,
      systems: systems.filter(({ name }) => isShown(name)),
      comparisons: comparisons.filter(({ system }) => isShown(system)),
    }
  }
  const evaluated = systems
    .filter(({ about }) => about.adapterSha256 !== undefined)
    .map(({ about }) => `${resolve(folder, String(about.adapter))} with SHA-256 ${about.adapterSha256}`)
  throw new CheckpointError(
    `The evaluation ${folder} is of ${evaluated.join(' and ') || 'no adapter'}, not of ${adapter} with SHA-256 ${sha256}`,
    {
      detail: { path: folder, adapter },
      hint: 'Evaluate what is sent (`fire-train evaluate --adapter`), name its evaluation, or leave --evaluation out.',
    },
  )
}

async function countPairs(file: string): Promise<PairsAbout> {
  const about: PairsAbout = { pairs: 0, images: 0, questions: 0, byOrigin: {}, byCategory: {}, twins: {} }
  const [images, questions] = [new Set<string>(), new Set<string>()]
  const add = (counts: Record<string, number>, name: string): void => {
    counts[name] = (Object.hasOwn(counts, name) ? counts[name] : 0) + 1
  }
  for await (const { record } of readJsonl(file, pair)) {
    about.pairs += 1
    for (const { sha256 } of record.images) images.add(sha256)
    questions.add(record.sampleId)
    add(about.byOrigin, record.origin)
    for (const { category } of record.edits) add(about.byCategory, category)
    if (record.corrupted) add(about.twins, twinWords(record.corrupted))
  }
  return { ...about, images: images.size, questions: questions.size }
}

const twinWords = ({ method, sigma }: { method: string; sigma: number }): string =>
  sigma > 0 ? `${method}, σ ${sigma}` : method
