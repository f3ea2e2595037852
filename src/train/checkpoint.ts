/**
 * Checkpoints of a run: `checkpoints/step-N/{adapter,state,trainer.json}`. A folder gets its name only when it is
 * complete and on the disk, so any `step-N` that exists can be resumed from.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import {
  isEarlierMark,
  removeFolder,
  removeTemporaries,
  sha256File,
  writeFolderAtomic,
  writeJson,
} from '../data/files.js'
import type { Engine } from '../engine/engine.js'
import { asFileError, CheckpointError, RankError } from '../errors.js'
import { identityOf } from '../settings/setting.js'
import { type TrainConfig, trainSettings } from './settings.js'
import { nothingTracked, trackingSchema } from './tracking.js'

const stateFile = 'trainer.json'

const trainerState = z.strictObject({
  format: z.literal(1),
  version: z.string(),
  /** Optimizer steps done. */
  step: z.number().int().nonnegative(),
  totalSteps: z.number().int().positive(),
  /** Length of metrics.jsonl at this step; a resume cuts the file back to it. */
  metricsBytes: z.number().int().nonnegative(),
  /** The same of ranks.jsonl, where several ranks have written one. */
  ranksBytes: z.number().int().nonnegative().default(0),
  /** Processes that took the step together. */
  ranks: z.number().int().positive().default(1),
  /** Tokens that went through the decoder so far. */
  numTokens: z.number().nonnegative(),
  /** SHA-256 of the pairs file. */
  dataSha256: z.string(),
  /** SHA-256 of the held-out pairs, where they are a file. */
  evalSha256: z.string().nullable().default(null),
  /** What tells the adapter of `lora.init` from another one. */
  initMark: z.string().nullable().default(null),
  /** Ids of the pairs that could not be used: without them the order of the others is another. */
  leftOut: z.array(z.string()).default([]),
  /** What tells the model from another one at its place; checkpoints of version 0.1.0 have none. */
  modelMark: z.string().optional(),
  /** What its evaluations have shown. */
  tracking: trackingSchema.default(nothingTracked),
  /** What the numbers of the run depend on. */
  config: z.record(z.string(), z.unknown()),
})

export type TrainerState = z.infer<typeof trainerState>

/** The inputs of a run, by their content. */
export const madeSchema = trainerState
  .pick({ dataSha256: true, evalSha256: true, modelMark: true, initMark: true })
  .required()

export type Made = z.infer<typeof madeSchema>

export interface Checkpoint {
  path: string
  state: TrainerState
}

/** What a run was made of, and the file that says it. */
interface Identified {
  path: string
  state: Pick<TrainerState, keyof Made | 'config'>
}

/** The part of a configuration that a resumed run must share, as `dotted.key -> value`. */
export function fingerprint(config: TrainConfig): Record<string, unknown> {
  return { model: config.model, 'data.train': config.data.train, ...identityOf(trainSettings, config) }
}

/** Saves the engine and the trainer's state, then deletes all but the newest `keep` checkpoints. */
export async function saveCheckpoint(
  output: string,
  engine: Engine,
  state: TrainerState,
  options: { keep: number; baseModel: string },
): Promise<string> {
  const folder = join(output, 'checkpoints')
  const path = join(folder, `step-${state.step}`)
  await writeFolderAtomic(path, async (temporary) => {
    await engine.saveAdapter(join(temporary, 'adapter'), options.baseModel)
    await engine.saveState(join(temporary, 'state'))
    await writeJson(join(temporary, stateFile), state)
  })
  await pruneCheckpoints(output, options.keep)
  return path
}

/** Deletes all but the newest `keep` checkpoints. */
export async function pruneCheckpoints(output: string, keep: number): Promise<void> {
  const folder = join(output, 'checkpoints')
  const steps = await listSteps(folder)
  for (const step of steps.slice(0, -keep)) await removeFolder(join(folder, `step-${step}`))
}

/**
 * The newest checkpoint of a run folder, or `undefined` when it has none. Leftovers of interrupted writes are deleted.
 * @throws {CheckpointError} when its trainer.json cannot be read as one.
 */
export async function findCheckpoint(output: string): Promise<Checkpoint | undefined> {
  const folder = join(output, 'checkpoints')
  await removeTemporaries(folder)
  const newest = (await listSteps(folder)).at(-1)
  if (newest === undefined) return undefined
  const path = join(folder, `step-${newest}`)
  return { path, state: await readState(join(path, stateFile)) }
}

/**
 * The checkpoint that rank 0 goes on from, as this rank sees it. @param mark see `markCheckpoint`.
 * @throws {RankError} when it is not there or another one.
 */
export async function openCheckpoint(path: string, mark: string): Promise<Checkpoint> {
  const file = join(path, stateFile)
  const found = await sha256File(file).catch(() => undefined)
  if (found === mark) return { path, state: await readState(file) }
  throw new RankError(`${file} is ${found === undefined ? 'not there' : 'another file'} on this machine`, {
    detail: { path: file },
    hint: 'All ranks resume from the output folder of rank 0: name one on a file system that their machines share.',
  })
}

/** What tells a checkpoint from every other one. */
export const markCheckpoint = ({ path }: Checkpoint): Promise<string> => sha256File(join(path, stateFile))

/**
 * A model that moved is still the same one.
 * @throws {CheckpointError} naming each key whose value differs, or what else is not as it was.
 */
export function assertSameRun({ path, state }: Identified, config: TrainConfig, now: Made): void {
  const isSameModel = state.modelMark === now.modelMark
  assertSameSettings(path, { ...state.config, ...(isSameModel && { model: config.model }) }, config)
  const changed = (what: string): CheckpointError =>
    new CheckpointError(`${what} has changed since ${path} was written`, {
      hint: 'Restore it, or give another output folder.',
    })
  if (state.dataSha256 !== now.dataSha256) throw changed(config.data.train)
  if (state.evalSha256 !== now.evalSha256) throw changed(config.data.eval ?? 'data.eval')
  if (state.initMark !== now.initMark && !isEarlierMark(state.initMark)) throw changed(config.lora.init ?? 'lora.init')
  if (state.modelMark !== undefined && !isEarlierMark(state.modelMark) && !isSameModel)
    throw changed(`The model in ${config.model}`)
}

/**
 * @param saved a fingerprint. @param path where it is from.
 * @throws {CheckpointError} naming each key whose value differs.
 */
export function assertSameSettings(path: string, saved: Record<string, unknown>, config: TrainConfig): void {
  const current = fingerprint(config)
  const differing = [...new Set([...Object.keys(saved), ...Object.keys(current)])].filter(
    (key) => JSON.stringify(saved[key]) !== JSON.stringify(current[key]),
  )
  if (differing.length === 0) return
  const lines = differing.map(
    (key) => `  ${key}: ${JSON.stringify(saved[key])} then, ${JSON.stringify(current[key])} now`,
  )
  throw new CheckpointError(`The configuration is not the one of ${path}:\n${lines.join('\n')}`, {
    detail: { keys: differing },
    hint: 'Restore these values, or give another output folder.',
  })
}

/** @throws {CheckpointError} when other pairs are left out than when the checkpoint was written. */
export function assertSamePairs({ path, state }: Checkpoint, leftOut: readonly string[]): void {
  const changed = [
    ...state.leftOut.filter((id) => !leftOut.includes(id)),
    ...leftOut.filter((id) => !state.leftOut.includes(id)),
  ]
  if (changed.length === 0) return
  throw new CheckpointError(
    `Other pairs can be used than when ${path} was written: ${changed.slice(0, 5).join(', ')}`,
    {
      detail: { before: state.leftOut, now: leftOut },
      hint: 'Put their images back as they were, or use --overwrite to start again.',
    },
  )
}

async function readState(path: string): Promise<TrainerState> {
  const text = await readFile(path, 'utf8').catch(asFileError('Reading the checkpoint', path))
  try {
    return trainerState.parse(JSON.parse(text))
  } catch (error) {
    throw new CheckpointError(`${path} is not the trainer state of this version`, {
      cause: error,
      hint: 'Delete this checkpoint to resume from the one before it.',
    })
  }
}

/** Steps of the checkpoints in a folder, in their order. */
export async function listSteps(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch(() => [])
  return names
    .map((name) => /^step-(\d+)$/.exec(name)?.[1])
    .filter((step) => step !== undefined)
    .map(Number)
    .sort((left, right) => left - right)
}
