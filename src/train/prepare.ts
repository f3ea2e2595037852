/** Everything that happens before the first step: pairs checked, model opened, every pair tokenised, steps counted. */
import { setImmediate } from 'node:timers/promises'
import { loadPairs } from '../data/pairs.js'
import type { Pair } from '../data/records.js'
import { type ObjectiveSpec, openEngine } from '../engine/engine.js'
import { DataError, throwIfAborted } from '../errors.js'
import { counted } from '../settings/plural.js'
import { Chat } from '../text/chat.js'
import { type CollateContext, collate, type Example } from './collate.js'
import { decideCheckpointing } from './memory.js'
import { objectives } from './objectives.js'
import type { TrainConfig } from './settings.js'
import type { Plannable, Prepared, PrepareOptions } from './types.js'

/** Everything up to an open engine. The caller closes it. Data errors come before a weight is read. */
export async function prepare(config: TrainConfig, options: PrepareOptions = {}): Promise<Prepared> {
  const { engine: planner, ...rest } = await preparePlan(config, options)
  let checkpointing: boolean
  try {
    checkpointing = await decideCheckpointing(config, { engine: planner, ...rest }, options)
  } finally {
    await planner.close()
  }
  const spec = { ...engineOptions(config), checkpointing }
  const engine = await openEngine(spec, { signal: options.signal, native: options.native })
  return { engine, ...rest, checkpointing }
}

/** The same with an engine that only plans. */
export async function preparePlan(config: TrainConfig, options: PrepareOptions = {}): Promise<Plannable> {
  const traits = objectives[config.objective.name]
  const log = options.onLog ?? (() => {})
  const loaded = await loadPairs(config.data.train, {
    images: config.data.images,
    emptyPhrase: traits.phrases ? config.objective.emptyPhrase : 'keep',
    preference: config.objective.name !== 'sft',
  })
  for (const warning of loaded.warnings) log(`warning: ${warning}`)
  if (loaded.pairs.length === 0) {
    throw new DataError(`${config.data.train} has no pair to train on (${loaded.counts.read} read)`, {
      detail: { ...loaded.counts },
    })
  }
  log(`${counted(loaded.pairs.length, 'pair')} from ${config.data.train}`)
  const spec = { ...engineOptions(config), checkpointing: config.checkpointing === true, planOnly: true }
  const engine = await openEngine(spec, { signal: options.signal, native: options.native })
  try {
    const chat = await Chat.load(config.model, engine.info)
    const context = {
      chat,
      imageTokens: (width: number, height: number) => engine.imageTokens(width, height),
      imageRoot: loaded.imageRoot,
      corrupted: traits.visual !== null,
      maskMode: config.objective.maskMode,
    }
    const examples = await collateAll(loaded.pairs, context, options.signal)
    if (context.maskMode === 'authors') {
      const different = examples.filter(({ differs }) => differs).length
      log(`maskMode authors: ${different} of ${examples.length} pairs have other tokens than their clean text`)
    }
    const stepsPerEpoch = Math.ceil(examples.length / config.batchSize)
    const totalSteps = Math.min(config.epochs * stepsPerEpoch, config.maxSteps ?? Number.POSITIVE_INFINITY)
    return { engine, examples, loaded, objective: objectiveSpec(config), stepsPerEpoch, totalSteps }
  } catch (error) {
    await engine.close()
    throw error
  }
}

/** Tokenises every pair, letting other work run in between. */
async function collateAll(pairs: Pair[], context: CollateContext, signal: AbortSignal | undefined): Promise<Example[]> {
  const examples: Example[] = []
  for (const pair of pairs) {
    examples.push(collate(pair, context))
    if (examples.length % 32 > 0) continue
    await setImmediate()
    throwIfAborted(signal)
  }
  return examples
}

function objectiveSpec({ objective }: TrainConfig): ObjectiveSpec {
  const { name, beta, alpha, gamma, lambda, klReduction } = objective
  return { name, beta, alpha, gamma, lambda, klReduction }
}

function engineOptions(config: TrainConfig): Parameters<typeof openEngine>[0] {
  const { model, device, dtype, threads, gemm, seed } = config
  const referenceCacheBytes = config.referenceCache * 2 ** 20
  return { model, device, dtype, threads, gemm, referenceCacheBytes, lora: { ...config.lora, seed } }
}
