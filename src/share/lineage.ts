/** The trainings that an adapter went through, one from the adapter of the other: rounds, or `lora.init`. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { hashModel, markFolder } from '../data/files.js'
import { readMergedFrom } from '../data/merged.js'
import { CheckpointError, FireError } from '../errors.js'
import { readTraining } from '../report/collect.js'
import type { Training } from '../report/describe.js'
import { runOfAdapter } from '../train/init-run.js'
import { keptAdapters } from '../train/kept-adapters.js'
import { runFiles } from '../train/run-folder.js'

/** A training, up to the adapter that went on. */
export interface TrainedRun {
  training: Training
  /** Optimizer steps behind that adapter: fewer than the run had where it is its best one or one of a checkpoint. */
  steps: number
}

export interface Lineage {
  /** In their order; the last is that of the adapter itself. */
  runs: TrainedRun[]
  /** The first of them began with a fresh adapter, and with a model that none is merged into, so nothing is missing. */
  isWhole: boolean
}

/** An adapter, and the hash of its content. */
export interface Sent {
  folder: string
  sha256: string
}

/** The trainings behind an adapter of a run. @throws {CheckpointError} when it is none of this run. */
export async function lineageOf(sent: Sent, run: string): Promise<Lineage> {
  const training = await readTraining(join(run, runFiles.metrics))
  const last = { training, steps: await stepsBehind(sent, run, training) }
  const { init } = training.config.lora
  if (init === null) return { runs: [last], isWhole: !(await isOnMerged(training)) }
  const before = await lineageOfInit(init, training)
  return { runs: [...(before?.runs ?? []), last], isWhole: before?.isWhole ?? false }
}

/** Whether the model that was trained had learnt from pairs before: nothing says where those are. */
async function isOnMerged({ config, report: { mergedSha256 } }: Training): Promise<boolean> {
  // The folder may be another by now, so what the run saw comes first.
  return mergedSha256 === undefined ? (await readMergedFrom(config.model)) !== undefined : mergedSha256 !== null
}

/** Undefined where the run of `init` is gone, is incomplete, or has another adapter there by now. */
async function lineageOfInit(init: string, { report }: Training): Promise<Lineage | undefined> {
  const run = runOfAdapter(init)
  if (run === undefined || !existsSync(join(run, runFiles.report)) || !existsSync(init)) return undefined
  if ((await markFolder(init)) !== report.initMark) return undefined
  return lineageOf({ folder: init, sha256: await hashModel(init) }, run).catch((error: unknown) => {
    if (error instanceof FireError) return undefined
    throw error
  })
}

/** What speaks against the runs: their adapters were taken all the same, best ones or those of a step before. */
export function problemsOf({ runs }: Lineage): string[] {
  return runs.flatMap(({ training: { report }, steps }, index) => {
    if (!report.problem) return []
    const which = runs.length === 1 ? 'The training run' : `Training run ${index + 1} of ${runs.length}`
    return [`${which} ended with a problem: ${report.problem}. Its adapter of step ${steps} is what was taken.`]
  })
}

/** @throws {CheckpointError} when the adapter is none of the run. */
async function stepsBehind({ folder, sha256 }: Sent, run: string, { report }: Training): Promise<number> {
  const kept = await keptAdapters(run, report)
  const same = kept.find((each) => each.sha256 === sha256)
  if (same) return same.step
  const others = kept.map((each) =>
    each.sha256 ? `${each.path} with SHA-256 ${each.sha256}` : `${each.path}, now gone`,
  )
  throw new CheckpointError(
    `${folder} has an adapter with SHA-256 ${sha256}, and the run ${run} has another: ${others.join(', ')}`,
    { detail: { path: folder, run }, hint: 'Name the run that the adapter is from with --run.' },
  )
}
