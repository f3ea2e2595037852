/** From a file of samples and a file of responses to pairs, rejections and a report, each written whole or not at all. */
import { dirname, relative, resolve, sep } from 'node:path'
import pLimit from 'p-limit'
import { deleteAll, followLinks, writeJson } from '../data/files.js'
import { placeOf, readJsonl, writeJsonl } from '../data/jsonl.js'
import {
  type ImageRef,
  type Pair,
  pair as pairSchema,
  response as responseSchema,
  type Sample,
  sample as sampleSchema,
} from '../data/records.js'
import type { Usage } from '../endpoint/index.js'
import { ArgumentError, DataError, throwIfAborted } from '../errors.js'
import { checkOptions } from '../options.js'
import { alone, type Ranks } from '../ranks/ranks.js'
import {
  beforehand,
  byFirst,
  contentOf,
  forgetFound,
  lockByFirst,
  splitWork,
  untilSeen,
  writtenByFirst,
} from '../stage/split.js'
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
  /** The processes that build together; progress is then that of this one's share. All of them make the same call. */
  ranks?: Ranks
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
    ranks: true,
  })
  const { samples, responses, out, signal, onProgress, ranks = alone } = options
  const { provider, blindJudge, mode, seed, limits, wrongSentences } = options
  const context = { provider, blindJudge, mode, seed, limits, wrongSentences }
  const problem = modeProblem(mode, options.logprobFloor)
  if (problem !== undefined) throw new ArgumentError(problem)
  await using _lock = await lockByFirst(ranks, out, 'file', [samples, responses])
  const tasks = await readTasks(options)
  const whole = provider.oneClient || blindJudge?.oneClient
  const about = [provider.name, blindJudge?.name, mode, seed, limits, wrongSentences]
  const built: PairOutcome[] = []
  await splitWork<ReadTask, PairOutcome, null>(ranks, {
    ...{ what: 'pairs', output: out, signal, onProgress, whole, lasting: true },
    items: () => tasks,
    keyOf: (task) => [about, task],
    groupOf: ({ sample }) => sample.id,
    work: (open, stop) => constructAll(open, options.concurrency, context, stop),
    async finish(outcomes) {
      for await (const outcome of outcomes) {
        built.push(outcome)
        if (whole || ranks.size === 1) onProgress?.(built.length, tasks.length)
      }
      return null
    },
  })
  const measured = await measureMade(built, options)
  let pairs: readonly Pair[] | undefined
  const said = await byFirst(ranks, `${out} written`, signal, async () => {
    const result = await writeOutcomes(tasks, built, measured, options)
    pairs = result.pairs
    await forgetFound(out)
    return { report: result.report, files: result.files, written: await contentOf(out) }
  })
  const { report, files, written } = said
  if (!pairs) {
    await untilSeen(out, written)
    pairs = await pairsIn(out)
  }
  return { report, files, pairs }
}

/** One outcome a task, in their order, several at work. */
async function* constructAll(
  tasks: AsyncIterable<ReadTask>,
  concurrency: number,
  context: ConstructContext,
  signal?: AbortSignal,
): AsyncGenerator<PairOutcome> {
  const limit = pLimit(concurrency)
  const failed = new AbortController()
  const running: Promise<PairOutcome>[] = []
  const stopped = new Promise<never>((_, reject) => {
    failed.signal.addEventListener('abort', () => reject(failed.signal.reason), { once: true })
  })
  stopped.catch(() => {})
  try {
    for await (const task of tasks) {
      const outcome = limit(() => {
        throwIfAborted(signal)
        return task.repeats ? repeated(task.repeats) : constructPair(task, context)
      })
      outcome.catch((error) => {
        // What has not begun shall not begin, above all not what costs money.
        limit.clearQueue()
        failed.abort(error)
      })
      running.push(outcome)
    }
    for (const outcome of running) yield await Promise.race([outcome, stopped])
  } finally {
    limit.clearQueue()
  }
}

async function pairsIn(path: string): Promise<Pair[]> {
  const pairs: Pair[] = []
  for await (const { record } of readJsonl(path, pairSchema)) pairs.push(record)
  return pairs
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
    if (record.images && record.images.join() !== sample.images.map(({ sha256 }) => sha256).join()) {
      throw new DataError(
        `${placeOf(responses, line, record.sampleId)}: the answer is about other images than the sample`,
        {
          detail: { path: responses, line, id: record.sampleId },
          hint: `Ask again: the images of ${path} are not those that were shown.`,
        },
      )
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

/** What a model thinks of the pairs that were built. Ranks share that too; they find the pairs in a file meanwhile. */
async function measureMade(
  built: readonly PairOutcome[],
  { measure, out, signal, ranks = alone }: BuildPairsOptions,
): Promise<Perplexity | undefined> {
  if (!measure) return undefined
  let made = built.flatMap(({ pair }) => pair ?? [])
  const folder = dirname(resolve(out))
  if (ranks.size > 1) {
    const path = beforehand(await followLinks(resolve(out)))
    try {
      await writtenByFirst(ranks, path, signal, () => writeJsonl(path, made))
      if (ranks.rank > 0) made = await pairsIn(path)
      await ranks.gather(`${path} read`, null)
    } finally {
      if (ranks.rank === 0) await deleteAll([path])
    }
  }
  return made.length > 0 ? await measure(made, folder) : undefined
}

/** Each pair with what the edit costs its text under a model; pairs below the floor are turned down. */
function weigh(outcomes: readonly PairOutcome[], measured: Perplexity | undefined, options: BuildPairsOptions) {
  const made = outcomes.flatMap(({ pair }) => pair ?? [])
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
  measured: Perplexity | undefined,
  options: BuildPairsOptions,
): Promise<BuildPairsResult> {
  const { outcomes, perplexity } = weigh(built, measured, options)
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
