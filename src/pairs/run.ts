/** From a file of samples and a file of responses to pairs, rejections and a report, each written whole or not at all. */
import { dirname, relative, resolve, sep } from 'node:path'
import pLimit from 'p-limit'
import { writeJson } from '../data/files.js'
import { placeOf, readJsonl, writeJsonl } from '../data/jsonl.js'
import { lockOutput } from '../data/lock.js'
import {
  type ImageRef,
  type Pair,
  response as responseSchema,
  type Sample,
  sample as sampleSchema,
} from '../data/records.js'
import type { Usage } from '../endpoint/index.js'
import { ArgumentError, DataError, throwIfAborted } from '../errors.js'
import { checkOptions } from '../options.js'
import type { PairOutcome } from './build.js'
import { type ConstructContext, constructKeys, constructPair, type Task } from './construct.js'
import { outputFiles, type PairFiles } from './files.js'
import { modeProblem, type PairMode } from './mode.js'
import type { PerplexityGap } from './perplexity.js'
import { countOutcome, emptyStatistics, type PairStatistics } from './statistics.js'
import { type StyleGap, styleGap } from './style.js'
import { defaultVerifyLimits, type VerifyLimits } from './verify.js'

/** Files of a whole run, and who is told about it. */
export interface BuildPairsOptions extends ConstructContext {
  samples: string
  responses: string
  /** The pairs; `rejected.jsonl` and `pairs.report.json` get the same stem beside it. */
  out: string
  /** Answers under way at once. */
  concurrency: number
  /** What the endpoints of this run were paid. */
  usage?: () => Usage
  /** Fields of requests that decide replies and that the endpoints did not take. */
  leftOut?: () => string[]
  /** Lowest log-probability of the edited text less that of the original, in nats, under the model of `measure`. */
  logprobFloor?: number
  /** What a model thinks of the pairs, for the report; the pairs' image paths are relative to `imageRoot`. */
  measure?: (pairs: readonly Pair[], imageRoot: string) => Promise<Perplexity>
  signal?: AbortSignal
  onProgress?: (done: number, total: number) => void
}

/** With the model that it was measured under. */
export interface Perplexity extends PerplexityGap {
  model: string
}

/** What pairs.report.json says. */
export interface PairReport {
  mode: PairMode
  provider: string
  blindJudge: string | null
  seed: number
  statistics: PairStatistics
  /** Pairs over answers, in 0…1. */
  acceptance: number
  style: StyleGap | null
  perplexity: Omit<Perplexity, 'logprobs'> | null
  usage: Usage | null
  /** Fields of requests that decide replies and that an endpoint did not take, for instance `temperature`. */
  leftOut?: string[]
  /** How much an edit may change. */
  limits: VerifyLimits
}

/** The pairs of a run and where they were written. */
export interface BuildPairsResult {
  report: PairReport
  pairs: readonly Pair[]
  files: PairFiles
}

/**
 * Judges, edits and verifies every response. The same inputs, seed and replies give the same bytes, however often the run was
 * interrupted.
 * @throws {ArgumentError} for a mode that is not possible with a floor.
 * @throws {DataError} at a record that is broken, or a response to a sample that does not exist.
 * @throws {LockedError} when another run writes to `out`.
 */
export async function buildPairs(options: BuildPairsOptions): Promise<BuildPairsResult> {
  checkOptions('buildPairs', options, {
    ...constructKeys,
    samples: true,
    responses: true,
    out: true,
    concurrency: true,
    usage: true,
    leftOut: true,
    logprobFloor: true,
    measure: true,
    signal: true,
    onProgress: true,
  })
  const { samples, responses, out, signal, onProgress } = options
  const { provider, blindJudge, mode, seed, limits, wrongSentences } = options
  const context = { provider, blindJudge, mode, seed, limits, wrongSentences }
  const problem = modeProblem(mode, options.logprobFloor)
  if (problem !== undefined) throw new ArgumentError(problem)
  await using _lock = await lockOutput(out, 'file', [samples, responses])
  const tasks = await readTasks(options)
  const limit = pLimit(options.concurrency)
  let done = 0
  const outcomes = await Promise.all(
    tasks.map((task) =>
      limit(async () => {
        throwIfAborted(signal)
        const outcome = task.repeats ? repeated(task.repeats) : await constructPair(task, context)
        onProgress?.(++done, tasks.length)
        return outcome
      }),
    ),
  ).catch((error) => {
    // What has not begun shall not begin, above all not what costs money.
    limit.clearQueue()
    throw error
  })
  return await writeOutcomes(tasks, outcomes, options)
}

interface ReadTask extends Task {
  /** The task with the same text, when there is an earlier one. */
  repeats: string | null
}

async function readTasks({ samples: path, responses, out, mode }: BuildPairsOptions): Promise<ReadTask[]> {
  const samples = new Map<string, Sample>()
  const moved = imageMover(path, out)
  for await (const { record, line } of readJsonl(path, sampleSchema)) {
    if (samples.has(record.id)) throw new DataError(`${placeOf(path, line, record.id)}: the id is taken already`)
    samples.set(record.id, { ...record, images: record.images.map(moved) })
  }
  const tasks: ReadTask[] = []
  const heard = new Map<string, string>()
  const asked = new Map<string, number>()
  for await (const { record, line } of readJsonl(responses, responseSchema)) {
    const sample = samples.get(record.sampleId)
    if (!sample) {
      throw new DataError(`${placeOf(responses, line, record.sampleId)}: ${path} has no such sample`, {
        detail: { path: responses, line, id: record.sampleId },
      })
    }
    const number = asked.get(sample.id) ?? 0
    asked.set(sample.id, number + 1)
    const id = `${sample.id}#${number}`
    const said = `${sample.id}\n${mode === 'reference-style' ? '' : record.text}`
    tasks.push({ id, sample, response: record, repeats: heard.get(said) ?? null })
    if (!heard.has(said)) heard.set(said, id)
  }
  return tasks
}

/** Image paths are relative to the file that names them. */
function imageMover(samples: string, out: string): (image: ImageRef) => ImageRef {
  const from = dirname(resolve(samples))
  const to = dirname(resolve(out))
  return (image) => ({ ...image, path: relative(to, resolve(from, image.path)).split(sep).join('/') })
}

const repeated = (id: string): PairOutcome => ({ pair: null, rejection: 'duplicate', detail: `the same text as ${id}` })

/** Each pair with what the edit costs its text under a model; pairs below the floor are turned down. */
async function weigh(outcomes: readonly PairOutcome[], options: BuildPairsOptions) {
  const made = outcomes.flatMap(({ pair }) => pair ?? [])
  const measured = made.length > 0 ? await options.measure?.(made, dirname(resolve(options.out))) : undefined
  if (!measured) return { outcomes, perplexity: null }
  const { logprobs, ...perplexity } = measured
  const { logprobFloor: floor = Number.NEGATIVE_INFINITY } = options
  const weighed = outcomes.map((outcome): PairOutcome => {
    if (!outcome.pair) return outcome
    const { chosen, rejected } = logprobs[made.indexOf(outcome.pair)]
    const isRepaired = outcome.pair.origin === 'repaired'
    const editLogprob = Number((isRepaired ? chosen - rejected : rejected - chosen).toFixed(3))
    const detail = `the edit costs ${-editLogprob} nats under ${perplexity.model}`
    if (editLogprob < floor) return { pair: null, rejection: 'implausible_edit', detail }
    const provenance = { ...outcome.pair.provenance, editLogprob, editLogprobModel: perplexity.model }
    return { ...outcome, pair: { ...outcome.pair, provenance } }
  })
  return { outcomes: weighed, perplexity }
}

async function writeOutcomes(
  tasks: readonly Task[],
  built: readonly PairOutcome[],
  options: BuildPairsOptions,
): Promise<BuildPairsResult> {
  const { outcomes, perplexity } = await weigh(built, options)
  const statistics = emptyStatistics()
  for (const outcome of outcomes) countOutcome(statistics, outcome)
  const pairs = outcomes.flatMap(({ pair }) => pair ?? [])
  const report: PairReport = {
    mode: options.mode,
    provider: options.provider.name,
    blindJudge: options.blindJudge?.name ?? null,
    seed: options.seed,
    statistics: sorted(statistics),
    acceptance: outcomes.length === 0 ? 0 : Number((pairs.length / outcomes.length).toFixed(4)),
    style: styleGap(pairs),
    perplexity,
    usage: options.usage?.() ?? null,
    leftOut: options.leftOut?.(),
    limits: options.limits ?? defaultVerifyLimits,
  }
  const files = outputFiles(options.out)
  const refused = tasks.flatMap(({ id, sample, response }, index) => {
    const outcome = outcomes[index]
    if (outcome.pair) return []
    const { rejection: reason, detail } = outcome
    return [{ id, sampleId: sample.id, reason, detail, text: response.text }]
  })
  await writeJsonl(files.rejected, refused)
  await writeJson(files.report, report)
  // Last, so that pairs without their rejections are never there.
  await writeJsonl(files.pairs, pairs)
  return { report, pairs, files }
}

/** Counts in an order that does not depend on which answer came first; of words and reasons the most frequent ones. */
function sorted(statistics: PairStatistics): PairStatistics {
  const byName = <T extends object>(counts: T) =>
    Object.fromEntries(Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1))) as T
  const most = (counts: Record<string, number>) =>
    Object.fromEntries(
      Object.entries(byName(counts))
        .sort(([, a], [, b]) => b - a)
        .slice(0, MOST_LISTED),
    )
  const { byCategory, byRejection, byOriginAndCategory, undecided, unknownWords } = statistics
  const { repaired, counterfactual } = byOriginAndCategory
  return {
    ...{ ...statistics, byCategory: byName(byCategory), byRejection: byName(byRejection) },
    byOriginAndCategory: { repaired: byName(repaired), counterfactual: byName(counterfactual) },
    ...{ undecided: most(undecided), unknownWords: most(unknownWords) },
  }
}

const MOST_LISTED = 50
