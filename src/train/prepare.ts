/** Everything that happens before the first step: pairs checked, model opened, every pair tokenised, steps counted. */
import { setImmediate } from 'node:timers/promises'
import { featureStore } from '../data/feature-store.js'
import { sha256 } from '../data/files.js'
import { refuseMerged } from '../data/merged.js'
import { type LoadedPairs, loadPairs, type PairCounts, type PairFailure } from '../data/pairs.js'
import type { Pair } from '../data/records.js'
import { defaultLora, type LoraSpec, type ObjectiveSpec, openEngine } from '../engine/engine.js'
import { objectives, readsTwin } from '../engine/objectives.js'
import { ConfigError, DataError, isOfRecord, throwIfAborted } from '../errors.js'
import { groupOf } from '../ranks/group.js'
import type { Ranks } from '../ranks/ranks.js'
import { requireSame } from '../ranks/same.js'
import { seatOf } from '../ranks/seat.js'
import { Chat } from '../text/chat.js'
import { type CollateContext, collate, type Example } from './collate.js'
import { type HeldOut, requireMetrics, sharedImages, splitByImage } from './held-out.js'
import { heldOutBefore } from './init-run.js'
import { decideMemory, inputsOf, largestMicroBatches, largestReadings, planned } from './memory.js'
import { PairOrder } from './order.js'
import { shapeKeys, type TrainConfig } from './settings.js'
import type { Plannable, Prepared, PrepareOptions } from './types.js'

/**
 * Everything up to an open engine. The caller closes it. Data errors come before a weight is read.
 * @throws {RankError} when the ranks have not read the same pairs.
 */
export async function prepare(config: TrainConfig, options: PrepareOptions, ranks: Ranks): Promise<Prepared> {
  const { localRanks, ...computed } = await seatOf(config, ranks, options.native)
  const group = await groupOf(ranks, computed.device !== 'cpu', options.native)
  if (group) {
    const transport = { nccl: 'NCCL', mpi: 'MPI' }[group.transport]
    options.onLog?.(`${group.size} ranks share the pairs of each step; their gradients go through ${transport}`)
  }
  const own = { ...config, ...computed }
  const { engine: planner, ...rest } = await preparePlan(own, options)
  const plannable = { engine: planner, ...rest }
  let decided: Awaited<ReturnType<typeof decideMemory>>
  let largest: Example[][]
  try {
    await requireSame(ranks, 'the pairs', pairFacts(rest))
    const ownBatches = largestMicroBatches(own, plannable, ranks)
    // Of few pairs this rank may never have one; rank 0 always has.
    largest = ownBatches.length > 0 ? ownBatches : largestMicroBatches(own, plannable, { ...ranks, rank: 0 })
    decided = await decideMemory(own, plannable, largest, { ...options, localRanks, group, world: ranks })
  } finally {
    await planner.close()
  }
  const { freeBytes } = planner.spec // as it was planned with
  const { checkpointing, packWeights, packedBytes } = decided
  const spec = {
    ...engineOptions(own),
    checkpointing,
    packWeights,
    freeBytes,
    group,
    featureStore: await featureStore(config.model, config),
  }
  const engine = await openEngine(spec, { signal: options.signal, native: options.native })
  try {
    const { signal } = options
    const { batches, objective } = largestReadings(own, plannable, ranks)
    await engine.reserveImages(decided.imageTokens)
    await engine.reserve(largest.map(inputsOf), rest.objective, planned, { signal })
    await engine.reserve(batches.map(inputsOf), objective, planned, { signal, training: false })
  } catch (error) {
    await engine.close().catch(() => {}) // why it is closed is the error to show
    throw error
  }
  return { engine, ...rest, checkpointing, packedBytes }
}

/** What of the pairs decides who computes what, and in which order. */
function pairFacts({ examples, heldOut, failures, totalSteps }: Omit<Plannable, 'engine'>): Record<string, unknown> {
  const ids = (pairs: readonly Example[]): string => sha256(pairs.map(({ input }) => input.id).join('\n'))
  return {
    'number of pairs': examples.length,
    'ids of pairs': ids(examples),
    'number of held-out pairs': heldOut?.examples.length ?? 0,
    'ids of held-out pairs': ids(heldOut?.examples ?? []),
    'left out': failures.map(({ id }) => id),
    steps: totalSteps,
  }
}

/** The same with an engine that only plans. */
export async function preparePlan(config: TrainConfig, options: PrepareOptions = {}): Promise<Plannable> {
  const log = options.onLog ?? (() => {})
  if (config.lora.init !== null) await refuseMerged(config.model, config.lora.init)
  const failures: PairFailure[] = []
  const loaded = await load(config, config.data.train, failures, options)
  requirePairs(config, loaded.counts, loaded.pairs, failures)
  const spec = { ...engineOptions(config), checkpointing: config.checkpointing === true, planOnly: true }
  const engine = await openEngine(spec, { signal: options.signal, native: options.native })
  try {
    requireShape(config, engine.info.lora)
    const chat = await Chat.load(config.model, engine.info)
    const context = {
      chat,
      imageTokens: (width: number, height: number) => engine.imageTokens(width, height),
      imageRoot: loaded.imageRoot,
      corrupted: readsTwin(objectives[config.objective.name]),
      maskMode: config.objective.maskMode,
      beyondContext: config.beyondContext,
    }
    const usable = await collateAll(loaded.pairs, context, failures, options.signal)
    const counts = { ...loaded.counts, kept: usable.length, failed: failures.length }
    requirePairs(
      config,
      counts,
      usable.map(({ input }) => input),
      failures,
    )
    const { examples, heldOut, warnings } = await holdOut(config, { usable, loaded, context, failures }, options)
    loaded.warnings.push(...warnings)
    if (failures.length > 0) {
      loaded.warnings.push(`${failures.length} pairs left out, they cannot be used; first: ${failures[0].reason}`)
    }
    for (const warning of loaded.warnings) log(`warning: ${warning}`)
    log(`${examples.length} pairs from ${config.data.train}`)
    if (heldOut) log(`${heldOut.examples.length} pairs held out, from ${config.data.eval ?? config.data.train}`)
    if (context.maskMode === 'authors') {
      const different = examples.filter(({ differs }) => differs).length
      log(`maskMode authors: ${different} of ${examples.length} pairs have other tokens than their clean text`)
    }
    if (config.lora.init !== null) {
      const reference = config.lora.reference === 'init' ? 'that adapter' : 'the model without an adapter'
      log(`training goes on from the adapter ${config.lora.init}; the reference is ${reference}`)
    }
    const order = new PairOrder(examples, { ...config, order: config.data.order })
    const totalSteps = Math.min(config.epochs * order.stepsPerEpoch, config.maxSteps ?? Number.POSITIVE_INFINITY)
    const objective = objectiveSpec(config)
    return { engine, chat, examples, heldOut, loaded: { ...loaded, counts }, failures, objective, order, totalSteps }
  } catch (error) {
    await engine.close()
    throw error
  }
}

function load(
  config: TrainConfig,
  path: string,
  failures: PairFailure[],
  options: PrepareOptions,
): Promise<LoadedPairs> {
  const { scope, emptyPhrase, name } = config.objective
  return loadPairs(path, {
    images: config.data.images,
    emptyPhrase: scope === 'phrase' ? emptyPhrase : 'keep',
    preference: objectives[name].prefers !== null,
    onFailure: (failure) => failures.push(failure),
    signal: options.signal,
  })
}

interface Usable {
  /** Pairs of `data.train` that can be used. */
  usable: Example[]
  loaded: LoadedPairs
  context: CollateContext
  failures: PairFailure[]
}

/** Which pairs are trained on, and which are only evaluated. */
async function holdOut(
  config: TrainConfig,
  { usable, loaded, context, failures }: Usable,
  options: PrepareOptions,
): Promise<{ examples: Example[]; heldOut: HeldOut | null; warnings: string[] }> {
  const { eval: path, evalShare } = config.data
  if (evalShare !== null) {
    const { trained, heldOut } = splitByImage(usable, evalShare)
    requireMetrics(config, heldOut)
    const warnings = await seenWarnings(config, usable, evalShare)
    return { examples: trained, heldOut: { examples: heldOut, records: byId(loaded) }, warnings }
  }
  if (path === null) return { examples: usable, heldOut: null, warnings: [] }
  const separate = await load(config, path, failures, options)
  const evaluated = await collateAll(
    separate.pairs,
    { ...context, imageRoot: separate.imageRoot },
    failures,
    options.signal,
  )
  if (evaluated.length === 0) throw new DataError(`${path} has no pair that can be evaluated`)
  requireMetrics(config, evaluated)
  const shared = sharedImages(evaluated, usable)
  const warning = `${shared} of ${evaluated.length} held-out pairs show images that are trained on: their numbers say little of new images`
  return {
    examples: usable,
    heldOut: { examples: evaluated, records: byId(separate) },
    warnings: [...separate.warnings, ...(shared > 0 ? [warning] : [])],
  }
}

/** Where the adapter that training goes on from may have seen what is held out now. */
async function seenWarnings(
  { lora: { init } }: TrainConfig,
  usable: readonly Example[],
  share: number,
): Promise<string[]> {
  if (init === null) return []
  const where = 'data.evalShare: the adapter of lora.init may have been trained on images that are held out now'
  if (!(await heldOutBefore(init, share))) {
    return [
      `${where}: no run of it is known that held out as large a share; data.eval names the same pairs for every run`,
    ]
  }
  // Which of its images decides for such a pair depends on the pairs beside it.
  if (!usable.some(({ input }) => input.images.length > 1)) return []
  return [`${where}: there are pairs of several images; data.eval names the same pairs for every run`]
}

const byId = ({ pairs }: LoadedPairs): HeldOut['records'] => new Map(pairs.map((pair) => [pair.id, pair]))

/** @throws {ConfigError} when the file says another shape of the adapter of `lora.init` than it has. */
function requireShape({ lora: { init, ...said } }: TrainConfig, found: LoraSpec | null): void {
  if (init === null || found === null) return
  const plain = (value: unknown): string => (Array.isArray(value) ? [...value].sort().join(', ') : String(value))
  for (const key of shapeKeys) {
    if (said[key] === undefined || plain(said[key]) === plain(found[key])) continue
    throw new ConfigError(
      `lora.${key} is ${plain(said[key])}, the adapter of lora.init has ${plain(found[key])} (${init})`,
      { detail: { key, init }, hint: 'Leave out rank, alpha, rslora and targets: those of the adapter are used.' },
    )
  }
}

/** @throws {DataError} when nothing is left, or nothing that counts. */
function requirePairs(
  { data }: TrainConfig,
  counts: PairCounts,
  pairs: readonly { weight?: number }[],
  failures: readonly PairFailure[],
): void {
  if (pairs.some(({ weight = 1 }) => weight > 0)) return
  const what = pairs.length > 0 ? 'whose weight is above 0' : 'to train on'
  const first = failures.length > 0 ? `; first failure: ${failures[0].reason}` : ''
  throw new DataError(`${data.train} has no pair ${what} (${counts.read} read)${first}`, { detail: { ...counts } })
}

/** Tokenises every pair, letting other work run in between; those that cannot be used go to `failures`. */
async function collateAll(
  pairs: Pair[],
  context: CollateContext,
  failures: PairFailure[],
  signal: AbortSignal | undefined,
): Promise<Example[]> {
  const examples: Example[] = []
  for (const [index, pair] of pairs.entries()) {
    try {
      examples.push(collate(pair, context))
    } catch (error) {
      if (!isOfRecord(error)) throw error
      failures.push({ id: pair.id, code: error.code, reason: error.message })
    }
    if (index % 32 < 31) continue
    await setImmediate()
    throwIfAborted(signal)
  }
  return examples
}

function objectiveSpec({ objective: { emptyPhrase: _, maskMode: __, ...spec } }: TrainConfig): ObjectiveSpec {
  return spec
}

function engineOptions(config: TrainConfig): Parameters<typeof openEngine>[0] {
  const { model, device, dtype, threads, packWeights, gemm, seed } = config
  const { init, reference, ...own } = config.lora
  const referenceCacheBytes = config.referenceCache * 2 ** 20
  const lora = { ...defaultLora, ...own, seed }
  const referenceAdapter = reference === 'init' ? init : null
  return {
    model,
    device,
    dtype,
    threads,
    packWeights,
    gemm,
    referenceCacheBytes,
    lora,
    adapter: init,
    referenceAdapter,
  }
}
