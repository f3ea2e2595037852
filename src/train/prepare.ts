/** Everything that happens before the first step: pairs checked, model opened, every pair tokenised, steps counted. */
import { setImmediate } from 'node:timers/promises'
import { featureStore } from '../data/feature-store.js'
import { loadPairs, type PairCounts, type PairFailure } from '../data/pairs.js'
import type { Pair } from '../data/records.js'
import { type ObjectiveSpec, openEngine } from '../engine/engine.js'
import { objectives, readsTwin } from '../engine/objectives.js'
import { DataError, isOfRecord, throwIfAborted } from '../errors.js'
import { Chat } from '../text/chat.js'
import { type CollateContext, collate, type Example } from './collate.js'
import { decideMemory } from './memory.js'
import { PairOrder } from './order.js'
import type { TrainConfig } from './settings.js'
import type { Plannable, Prepared, PrepareOptions } from './types.js'

/** Everything up to an open engine. The caller closes it. Data errors come before a weight is read. */
export async function prepare(config: TrainConfig, options: PrepareOptions = {}): Promise<Prepared> {
  const { engine: planner, ...rest } = await preparePlan(config, options)
  let decided: Awaited<ReturnType<typeof decideMemory>>
  try {
    decided = await decideMemory(config, { engine: planner, ...rest }, options)
  } finally {
    await planner.close()
  }
  const { freeBytes } = planner.spec // as it was planned with
  const spec = {
    ...engineOptions(config),
    ...decided,
    freeBytes,
    featureStore: await featureStore(config.model, config),
  }
  const engine = await openEngine(spec, { signal: options.signal, native: options.native })
  return { engine, ...rest, checkpointing: decided.checkpointing }
}

/** The same with an engine that only plans. */
export async function preparePlan(config: TrainConfig, options: PrepareOptions = {}): Promise<Plannable> {
  const traits = objectives[config.objective.name]
  const log = options.onLog ?? (() => {})
  const failures: PairFailure[] = []
  const loaded = await loadPairs(config.data.train, {
    images: config.data.images,
    emptyPhrase: config.objective.scope === 'phrase' ? config.objective.emptyPhrase : 'keep',
    preference: traits.prefers !== null,
    onFailure: (failure) => failures.push(failure),
    signal: options.signal,
  })
  requirePairs(config, loaded.counts, loaded.pairs, failures)
  const spec = { ...engineOptions(config), checkpointing: config.checkpointing === true, planOnly: true }
  const engine = await openEngine(spec, { signal: options.signal, native: options.native })
  try {
    const chat = await Chat.load(config.model, engine.info)
    const context = {
      chat,
      imageTokens: (width: number, height: number) => engine.imageTokens(width, height),
      imageRoot: loaded.imageRoot,
      corrupted: readsTwin(traits),
      maskMode: config.objective.maskMode,
      beyondContext: config.beyondContext,
    }
    const examples = await collateAll(loaded.pairs, context, failures, options.signal)
    const counts = { ...loaded.counts, kept: examples.length, failed: failures.length }
    requirePairs(
      config,
      counts,
      examples.map(({ input }) => input),
      failures,
    )
    if (failures.length > 0) {
      loaded.warnings.push(`${failures.length} pairs left out, they cannot be used; first: ${failures[0].reason}`)
    }
    for (const warning of loaded.warnings) log(`warning: ${warning}`)
    log(`${examples.length} pairs from ${config.data.train}`)
    if (context.maskMode === 'authors') {
      const different = examples.filter(({ differs }) => differs).length
      log(`maskMode authors: ${different} of ${examples.length} pairs have other tokens than their clean text`)
    }
    const order = new PairOrder(examples, { ...config, order: config.data.order })
    const totalSteps = Math.min(config.epochs * order.stepsPerEpoch, config.maxSteps ?? Number.POSITIVE_INFINITY)
    const objective = objectiveSpec(config)
    return { engine, examples, loaded: { ...loaded, counts }, failures, objective, order, totalSteps }
  } catch (error) {
    await engine.close()
    throw error
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
  const referenceCacheBytes = config.referenceCache * 2 ** 20
  return { model, device, dtype, threads, packWeights, gemm, referenceCacheBytes, lora: { ...config.lora, seed } }
}
