/** A worker: takes steps that are ready, one after the other, until nothing is left that it can do. */
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { sha256 } from '../data/files.js'
import { lockOutput } from '../data/lock.js'
import { DiskFullError, isAbort, LockedError, throwIfAborted } from '../errors.js'
import { type Progress, type StageContext, silent } from '../stage/index.js'
import { titled } from '../stage/progress.js'
import { ContentHashes } from './contents.js'
import { type Graph, planStudy, type Run } from './graph.js'
import type { Study } from './load.js'
import { isDone, markDone, markFailed, readFailure, type Step } from './steps.js'

/** Part of the runs, for machines that share no folder: those whose hash falls on the index. */
export interface Shard {
  index: number
  count: number
}

/** How a worker works. Nothing of it changes a number. */
export interface WorkOptions {
  signal?: AbortSignal
  progress?: Progress
  native?: StageContext['native']
  /** Compute threads of each step; 0 = all. */
  threads?: number
  shard?: Shard
}

/** What became of the steps that were to be done. */
export interface WorkReport {
  done: number
  failed: number
  /** Of them, so many cannot be done since a step before failed. */
  blocked: number
  interrupted: boolean
}

/** How long to wait for a step that another worker has in hand, in milliseconds. */
const patience = 500

/**
 * Does the steps of a study until none is left that can be done; other workers may work on the same folder.
 * A step that fails is written down, and what needs it is left out.
 * @throws {DiskFullError} when there is no room: what is complete stays, and the same call goes on.
 */
export async function work(study: Study, root: string, options: WorkOptions = {}): Promise<WorkReport> {
  const { signal, progress = silent, shard, threads } = options
  const contents = await ContentHashes.open(root, signal)
  const here = threads === undefined ? study : { ...study, base: { ...study.base, threads } }
  let waited = false
  for (;;) {
    try {
      throwIfAborted(signal)
      const graph = await planStudy(here, root, contents)
      await contents.save()
      const { ready, report } = await survey(graph, root, shard)
      const outcome = await doOne(ready, report, root, options)
      if (outcome === 'none') return report
      if (outcome instanceof LockedError) {
        if (!waited) progress.log(`waiting: ${outcome.message}. ${outcome.hint}`)
        await setTimeout(patience, undefined, { signal })
      }
      waited = outcome !== 'done'
    } catch (error) {
      if (!isAbort(error, signal)) throw error
      progress.end('stopped')
      return { done: 0, failed: 0, blocked: 0, interrupted: true }
    }
  }
}

/** Which steps can be taken now, and how far the study is. */
async function survey(
  graph: Graph,
  root: string,
  shard: Shard | undefined,
): Promise<{ ready: Step[]; report: WorkReport }> {
  const wanted = wantedSteps(graph, shard)
  const report: WorkReport = { done: 0, failed: 0, blocked: 0, interrupted: false }
  const ready: Step[] = []
  const lost = new Set<string>()
  for (const step of wanted) {
    if (isDone(step)) report.done += 1
    else if (step.needs.some((name) => lost.has(name))) {
      report.blocked += 1
      lost.add(step.name)
    } else if (await readFailure(root, step)) {
      report.failed += 1
      lost.add(step.name)
    } else if (step.needs.every((name) => isDone(graph.steps.get(name) as Step))) ready.push(step)
  }
  return { ready, report }
}

/** Those of the runs of the shard and of the trials that they wait for, each after what it needs. */
function wantedSteps({ runs, steps }: Graph, shard: Shard | undefined): Step[] {
  const wanted = new Set<string>()
  const visit = (step: Step): void => {
    if (wanted.has(step.name)) return
    for (const name of step.needs) visit(steps.get(name) as Step)
    wanted.add(step.name)
  }
  for (const run of runs.filter((each) => !shard || isOf(shard, each))) {
    if (run.waitsFor) visit(run.waitsFor)
    for (const step of run.steps) visit(step)
  }
  return [...wanted].map((name) => steps.get(name) as Step)
}

function isOf({ index, count }: Shard, { arm, seed }: Run): boolean {
  return Number.parseInt(sha256(`${arm}/${seed}`).slice(0, 8), 16) % count === index - 1
}

/** Does the first step that no other worker has; resolves with the lock of one where others have them all. */
async function doOne(
  ready: readonly Step[],
  { done }: WorkReport,
  root: string,
  options: WorkOptions,
): Promise<'done' | 'none' | LockedError> {
  let locked: LockedError | undefined
  for (const step of ready) {
    try {
      // Beside the folder of the step: that one the stage locks itself.
      await using _claim = await lockOutput(join(root, 'claims', step.name), 'file')
      if (!isDone(step)) await doStep(step, `${done + 1} ${step.name}`, root, options)
      return 'done'
    } catch (error) {
      if (!(error instanceof LockedError)) throw error
      locked ??= error
    }
  }
  return locked ?? 'none'
}

async function doStep(step: Step, title: string, root: string, options: WorkOptions): Promise<void> {
  const { signal, progress = silent, native } = options
  const started = performance.now()
  try {
    // What is found in the folder was cut off: its name says that the settings are these.
    const context = { signal, progress: titled(progress, title), native, resume: true, overwrite: true }
    const { interrupted, summary, problem } = await step.run(context)
    if (interrupted) throwIfAborted(signal)
    if (problem) throw problem
    await markDone(root, step, { summary, seconds: (performance.now() - started) / 1000 })
    progress.end(summary)
  } catch (error) {
    if (isAbort(error, signal) || error instanceof DiskFullError || error instanceof LockedError) throw error
    progress.end('failed')
    await markFailed(root, step, error)
    progress.log(`${step.name} failed: ${(error as Error).message}`)
  }
}
