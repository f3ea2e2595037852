/**
 * The folder of a run: config.resolved.yaml, inputs.json, metrics.jsonl, ranks.jsonl, tensorboard/, report.html, checkpoints/, adapter/, best/, samples/, train.json,
 * failed.jsonl.
 */
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import {
  isWithin,
  markFolder,
  readTextIfThere,
  removeFolder,
  removeTemporaries,
  sha256File,
  writeFileAtomic,
  writeJson,
} from '../data/files.js'
import { asFileError, CheckpointError, ConfigError, guarded } from '../errors.js'
import type { Ranks } from '../ranks/ranks.js'
import { requireSame } from '../ranks/same.js'
import { version } from '../version.js'
import {
  assertSameRun,
  assertSameSettings,
  type Checkpoint,
  findCheckpoint,
  fingerprint,
  listSteps,
  type Made,
  madeSchema,
  markCheckpoint,
  openCheckpoint,
  pruneCheckpoints,
} from './checkpoint.js'
import { formatConfig, readResolvedConfig } from './config.js'
import type { TrainConfig } from './settings.js'

export const runFiles = {
  config: 'config.resolved.yaml',
  /** Hashes of what the run is made from. */
  inputs: 'inputs.json',
  metrics: 'metrics.jsonl',
  /** What each of several ranks says of a step. */
  ranks: 'ranks.jsonl',
  tensorboard: 'tensorboard',
  page: 'report.html',
  checkpoints: 'checkpoints',
  adapter: 'adapter',
  /** The adapter with the best value of `checkpoint.best`. */
  best: 'best',
  /** Answers to held-out questions. */
  samples: 'samples',
  report: 'train.json',
  /** Pairs that could not be used, where there are any. */
  failed: 'failed.jsonl',
} as const

export interface RunFolder {
  /** What the run is made of, by content. */
  made: Made
  /** Where to go on from; `undefined` at the start. */
  checkpoint: Checkpoint | undefined
  /** Files of an earlier run that the new one replaces. */
  replaced: string[]
}

/**
 * What all ranks go on from. Rank 0 decides it: the folder is its own.
 * @throws {RankError} when the ranks were not started for the same run, or see other files.
 */
export async function agreeOnRunFolder(config: TrainConfig, mode: Mode, ranks: Ranks): Promise<RunFolder> {
  const opened = ranks.rank === 0 ? await openRunFolder(config, mode) : undefined
  const made = opened?.made ?? (await madeOf(config))
  const { output, evalSamples } = config
  await requireSame(ranks, 'the run', { version, ...made, ...fingerprint(config), output, evalSamples })
  const own = opened?.checkpoint && { path: opened.checkpoint.path, mark: await markCheckpoint(opened.checkpoint) }
  const [named] = await ranks.gather('checkpoint', own ?? null)
  return opened ?? { made, checkpoint: named ? await openCheckpoint(named.path, named.mark) : undefined, replaced: [] }
}

/** What to do about an earlier run. */
interface Mode {
  resume: boolean
  overwrite: boolean
}

/**
 * Decides whether a run may use its output folder. A folder with an earlier run is refused unless it is resumed, or
 * overwritten: then the files of that run are replaced, and nothing else is touched. So are those of a run that was cut off
 * before its first checkpoint.
 */
async function openRunFolder(config: TrainConfig, mode: Mode): Promise<RunFolder> {
  const names = await readdir(config.output).catch(() => [] as string[])
  const earlier = names.filter((name) => (Object.values(runFiles) as string[]).includes(name))
  if (earlier.length > 0 && !mode.resume && !mode.overwrite) {
    throw new CheckpointError(`${config.output} holds a run already (${earlier.join(', ')})`, {
      hint: 'Use --resume to go on with it, --overwrite to start again, or another output folder.',
    })
  }
  const made = await madeOf(config)
  const checkpoint = mode.resume ? await findCheckpoint(config.output) : undefined
  if (checkpoint) assertSameRun(checkpoint, config, made)
  else if (mode.resume && !mode.overwrite) await assertCutOff(config, made, earlier)
  const replaced = checkpoint ? [] : earlier
  refuseInputs(config, replaced)
  if (mode.resume) await removeTemporaries(config.output)
  if (mode.resume) await pruneCheckpoints(config.output, config.checkpoint.keep)
  return { made, checkpoint, replaced }
}

/** @throws {CheckpointError} unless a folder without a checkpoint is what the same run left before its first one. */
async function assertCutOff(config: TrainConfig, made: Made, earlier: readonly string[]): Promise<void> {
  const { output } = config
  const has = (name: string): boolean => earlier.includes(name)
  // The adapter is written whole, after the last step: a kill or a full disk may come between it and the report.
  if (has(runFiles.report) || has(runFiles.adapter)) {
    throw new CheckpointError(`${output} holds a finished run, and no checkpoint to go on from`, {
      hint: has(runFiles.report)
        ? 'Use --overwrite to start again, or another output folder.'
        : `Its adapter is whole, only ${runFiles.report} is missing. Use the adapter, or --overwrite to train again.`,
    })
  }
  if (!has(runFiles.config)) return
  const path = join(output, runFiles.config)
  const saved = fingerprint(await readResolvedConfig(path))
  const inputs = await readInputs(output)
  if (inputs) assertSameRun({ path, state: { ...inputs, config: saved } }, config, made)
  else assertSameSettings(path, saved, config)
}

/** What is deleted must not be what the run starts from. */
function refuseInputs({ output, model, data, lora }: TrainConfig, replaced: string[]): void {
  const inputs = { model, 'data.train': data.train, 'data.eval': data.eval, 'lora.init': lora.init }
  for (const [key, path] of Object.entries(inputs)) {
    const name = path && replaced.find((each) => isWithin(path, join(output, each)))
    if (!name) continue
    throw new ConfigError(`${key} is ${path}, which would be deleted with ${join(output, name)} of an earlier run`, {
      hint: 'Name another output folder.',
      detail: { key, path },
    })
  }
}

async function madeOf({ data, model, lora }: TrainConfig): Promise<Made> {
  return {
    dataSha256: await sha256File(data.train),
    evalSha256: data.eval && (await sha256File(data.eval)),
    modelMark: await markFolder(model),
    initMark: lora.init && (await markFolder(lora.init)),
  }
}

/** Deletes what the new run replaces; called once everything else about the new run is known to be sound. */
export async function clearEarlierRun(config: TrainConfig, folder: RunFolder): Promise<void> {
  for (const name of folder.replaced) await removeFolder(join(config.output, name))
}

/** Notes what the run is: its inputs by content, then its settings. */
export async function writeIdentity(config: TrainConfig, { made }: RunFolder): Promise<void> {
  await writeJson(join(config.output, runFiles.inputs), made)
  await writeFileAtomic(join(config.output, runFiles.config), formatConfig(config))
}

/** Runs of earlier versions have none. */
async function readInputs(output: string): Promise<Made | undefined> {
  const path = join(output, runFiles.inputs)
  const text = await readTextIfThere(path)
  if (text === undefined) return undefined
  return guarded(
    () => madeSchema.parse(JSON.parse(text)),
    (_reason, cause) =>
      new CheckpointError(`${path} does not say what the run was made from`, {
        cause,
        hint: 'Use --overwrite to start again, or another output folder.',
      }),
  )
}

/** An adapter as a run had it after so many optimizer steps. */
export interface RunAdapter {
  step: number
  /** PEFT folder. */
  path: string
}

/**
 * What a run left, in the order of its steps: the adapters of the checkpoints that it kept, and that of the complete run.
 * @throws {CheckpointError} when there is none.
 */
export async function runAdapters(output: string): Promise<RunAdapter[]> {
  const folder = join(output, runFiles.checkpoints)
  const saved = (await listSteps(folder)).map((step) => ({ step, path: join(folder, `step-${step}`, 'adapter') }))
  const last = await lastStep(output)
  const adapters = saved.filter(({ step }) => step !== last)
  if (last !== undefined) adapters.push({ step: last, path: join(output, runFiles.adapter) })
  if (adapters.length > 0) return adapters
  throw new CheckpointError(`${output} holds no adapter and no checkpoint of a training run`, {
    hint: 'Give the folder that `fire-train train` wrote; checkpoint.every and checkpoint.keep say which steps it keeps.',
  })
}

const finished = z.looseObject({ step: z.number().int().nonnegative() })

/** Of a complete run. */
async function lastStep(output: string): Promise<number | undefined> {
  const path = join(output, runFiles.report)
  if (!existsSync(path)) return undefined
  const text = await readFile(path, 'utf8').catch(asFileError('Reading', path))
  const read = finished.safeParse(
    guarded(
      () => JSON.parse(text) as unknown,
      (reason, cause) => new CheckpointError(`${path} is not JSON: ${reason}`, { cause }),
    ),
  )
  if (read.success) return read.data.step
  throw new CheckpointError(`${path} is not the report of a training run`, { detail: { path } })
}
