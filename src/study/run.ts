/** A worker: takes steps that are ready, one after the other, until nothing is left that it can do. */
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { sha256 } from '../data/files.js'
import { lockOutput } from '../data/lock.js'
import { DataError, DiskFullError, isAbort, LockedError, throwIfAborted } from '../errors.js'
import { alone, type Ranks } from '../ranks/ranks.js'
import { type Progress, type StageContext, silent } from '../stage/index.js'
import { titled } from '../stage/progress.js'
import { studyFiles } from './files.js'
import { asItStands, type Plan, type Run, stepsOf } from './plan.js'
import { standingsOf } from './standing.js'
import { isDone, markDone, markFailed, readFailure, type Step } from './steps.js'

/** Part of the runs, for machines that share no folder: those whose hash falls on the index. */
export interface Shard {
  index: number
  count: number
}

/** One of several processes that share a study, and who is beside it. */
export type StudyRank = Pick<Ranks, 'rank' | 'neighbours'>

/** How a worker works. Nothing of it changes a number. */
export interface WorkOptions {
  signal?: AbortSignal
  progress?: Progress
  native?: StageContext['native']
  shard?: Shard
  /** This one of the processes that share the study. Each step is one rank's. */
  rank?: StudyRank
}

/** How long to wait for a step that another worker has in hand, in milliseconds. */
const patience = 500

/**
 * Does the steps of a plan until none is left that can be done, or the signal stops it; other workers may work on the same folder.
 * A step that fails is written down, and what needs it is left out.
 * @throws {DiskFullError} when there is no room: what is complete stays, and the same call goes on.
 */
export async function work(plan: Plan, root: string, options: WorkOptions = {}): Promise<void> {
  const { signal, progress = silent, shard } = options
  let waited = false
  for (;;) {
    try {
      throwIfAborted(signal)
      const runs = asItStands(plan).runs.filter((run) => !shard || isOf(shard, run))
      const outcome = await doOne(stepsOf(plan, runs), root, options)
      if (outcome === 'none') return
      if (outcome instanceof LockedError) {
        if (!waited) progress.log(`waiting: ${outcome.message}. ${outcome.hint}`)
        await setTimeout(patience, undefined, { signal })
      }
      waited = outcome !== 'done'
    } catch (error) {
      if (!isAbort(error, signal)) throw error
      progress.end('stopped')
      return
    }
  }
}

function isOf({ index, count }: Shard, { arm, seed }: Run): boolean {
  return Number.parseInt(sha256(`${arm}/${seed}`).slice(0, 8), 16) % count === index - 1
}

/** Does the first step that no other worker has; resolves with the lock of one where others have them all. */
async function doOne(
  steps: ReadonlyMap<string, Step>,
  root: string,
  options: WorkOptions,
): Promise<'done' | 'none' | LockedError> {
  const standings = await standingsOf(root, steps)
  let locked: LockedError | undefined
  const ready = [...steps.values()].filter(({ name }) => standings.get(name) === 'ready')
  // Each rank begins with another one, so that they do not all try for the first.
  const first = (options.rank?.rank ?? 0) % Math.max(1, ready.length)
  for (const step of [...ready.slice(first), ...ready.slice(0, first)]) {
    try {
      // Beside the folder of the step: that one the stage locks itself.
      await using _claim = await lockOutput(join(root, studyFiles.claims, step.name), 'file')
      if (!isDone(step) && !(await readFailure(root, step))) await doStep(step, root, options)
      return 'done'
    } catch (error) {
      if (!(error instanceof LockedError)) throw error
      locked ??= error
    }
  }
  return locked ?? 'none'
}

async function doStep(step: Step, root: string, options: WorkOptions): Promise<void> {
  const { signal, progress = silent, native } = options
  const started = performance.now()
  try {
    // What is found in the folder was cut off: its name says that the settings are these.
    const again = 'The same command'
    const progressOf = titled(progress, { stage: step.name })
    const ranks = { ...alone, neighbours: options.rank?.neighbours }
    const context = { signal, progress: progressOf, native, ranks, resume: true, overwrite: true, again }
    const { interrupted, summary, problem } = await step.run(context)
    if (interrupted) throwIfAborted(signal)
    if (problem) throw problem
    const left = await step.unfinished?.()
    // A number that depends on how many requests a server answered that day is none.
    if (left !== undefined) throw new DataError(`It is not complete: ${left}`, { hint: 'Run the same command again.' })
    await markDone(root, step, { summary, seconds: (performance.now() - started) / 1000 })
    progress.end(summary)
  } catch (error) {
    if (isAbort(error, signal) || error instanceof DiskFullError || error instanceof LockedError) throw error
    progress.end('failed')
    await markFailed(root, step, error)
    progress.log(`${step.name} failed: ${(error as Error).message}`)
  }
}
