/** What is known of a model that is shared: its training, the pairs, its evaluation. */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { hashModel } from '../data/files.js'
import { readJsonl } from '../data/jsonl.js'
import { readMergedFrom } from '../data/merged.js'
import { pair } from '../data/records.js'
import { CheckpointError, FileError } from '../errors.js'
import { type EvaluationResults, readEvaluation } from '../evaluate/finished.js'
import type { Training } from '../report/describe.js'
import { runOfAdapter } from '../train/init-run.js'
import { runFiles } from '../train/run-folder.js'
import type { Shared } from './folder.js'
import { type Lineage, lineageOf, type Sent } from './lineage.js'

/** The pairs of the trainings, counted. */
export interface PairsAbout {
  files: number
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
export interface About extends Lineage {
  /** The last of its trainings. */
  training: Training
  /** Null where a file of the pairs is gone. */
  pairs: PairsAbout | null
  /** Of what is shared and of what it is compared with; null where none is given. */
  evaluation: EvaluationResults | null
}

/**
 * @param run default: that of the run's own adapter.
 * @throws {FileError} when there is no complete run. @throws {CheckpointError} when run or evaluation are of another adapter.
 */
export async function readAbout(
  { kind, folder }: Pick<Shared, 'kind' | 'folder'>,
  run: string | undefined,
  evaluation: string | undefined,
): Promise<About> {
  const place = run ?? runOfAdapter(folder)
  if (place === undefined || !existsSync(join(place, runFiles.report))) {
    const what = place === undefined ? `${folder} is in no training run` : `${place} is no complete training run`
    throw new FileError(`${what}, so there is nothing to write its card from`, {
      detail: { path: place ?? folder },
      hint: 'Name the folder that `fire-train train` wrote with --run.',
    })
  }
  const sent: Sent = { folder, sha256: kind === 'adapter' ? await hashModel(folder) : await mergedHash(folder) }
  const lineage = await lineageOf(sent, place)
  const trainings = lineage.runs.map(({ training }) => training)
  const files = [...new Set(trainings.map(({ config }) => config.data.train))]
  return {
    ...lineage,
    training: trainings[trainings.length - 1],
    pairs: files.every((file) => existsSync(file)) ? await countPairs(files) : null,
    evaluation: evaluation === undefined ? null : await evaluationOf(sent, evaluation),
  }
}

/** Of the adapter that was merged into a model. */
async function mergedHash(folder: string): Promise<string> {
  const from = await readMergedFrom(folder)
  if (from) return from.adapterSha256
  throw new CheckpointError(`Nothing in ${folder} says which adapter was merged into it, so it cannot be checked`, {
    detail: { path: folder },
    hint: 'Merge again: `fire-train merge` writes fire-train.merge.json into the folder.',
  })
}

/**
 * The numbers of one adapter, and of the baseline.
 * @throws {CheckpointError} when they are of another one.
 */
async function evaluationOf(sent: Sent, folder: string): Promise<EvaluationResults> {
  const results = await readEvaluation(folder)
  const { baseline, systems, comparisons } = results
  const names = systems.filter(({ about }) => about.adapterSha256 === sent.sha256).map(({ name }) => name)
  if (names.length > 0) {
    const isShown = (name: string): boolean => name === baseline || names.includes(name)
    return {
      ...results,
      systems: systems.filter(({ name }) => isShown(name)),
      comparisons: comparisons.filter(({ system }) => isShown(system)),
    }
  }
  throw new CheckpointError(otherEvaluation(folder, systems, sent), {
    detail: { path: folder, sent: sent.folder },
    hint: 'Evaluate the adapter (`fire-train evaluate --adapter`), name its evaluation, or leave --evaluation out.',
  })
}

function otherEvaluation(folder: string, systems: EvaluationResults['systems'], { folder: own, sha256 }: Sent): string {
  const evaluated = systems
    .filter(({ about }) => about.adapterSha256 !== undefined)
    .map(({ about }) => `${resolve(folder, String(about.adapter ?? about.model))} with SHA-256 ${about.adapterSha256}`)
  const wanted = `${own} with SHA-256 ${sha256}`
  if (evaluated.length > 0) return `The evaluation ${folder} is of ${evaluated.join(' and ')}, not of ${wanted}`
  // A server does not say which adapter it answers with, and neither does a file of answers.
  const names = systems.map(({ name, about }) => `${name} (${about.kind})`)
  return `The evaluation ${folder} has no adapter with a hash, so nothing shows that it is of ${wanted}; its systems: ${names.join(', ')}`
}

async function countPairs(files: readonly string[]): Promise<PairsAbout> {
  const about: PairsAbout = {
    files: files.length,
    pairs: 0,
    images: 0,
    questions: 0,
    byOrigin: {},
    byCategory: {},
    twins: {},
  }
  const [images, questions] = [new Set<string>(), new Set<string>()]
  const add = (counts: Record<string, number>, name: string): void => {
    counts[name] = (Object.hasOwn(counts, name) ? counts[name] : 0) + 1
  }
  for (const file of files) {
    for await (const { record } of readJsonl(file, pair)) {
      about.pairs += 1
      for (const { sha256 } of record.images) images.add(sha256)
      questions.add(record.sampleId)
      add(about.byOrigin, record.origin)
      for (const { category } of record.edits) add(about.byCategory, category)
      if (record.corrupted) add(about.twins, twinWords(record.corrupted))
    }
  }
  return { ...about, images: images.size, questions: questions.size }
}

const twinWords = ({ method, sigma }: { method: string; sigma: number }): string =>
  sigma > 0 ? `${method}, σ ${Number(sigma.toPrecision(3))}` : method
