/** A step on disk: a folder with what the stage left, and step.json once it is complete. */
import { existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { deleteAll, readTextIfThere, writeJson } from '../data/files.js'
import { FireError, reasonOf } from '../errors.js'
import type { Input } from '../pipeline/index.js'
import type { StageContext, StageResult } from '../stage/index.js'
import { version } from '../version.js'

/** What tells how far a step is. */
export interface StepFiles {
  /** `STAGE-KEY`, also of its folder. */
  name: string
  stage: string
  folder: string
  /** Names of the steps whose results it reads. */
  needs: string[]
  /** Files that are there when it is complete. */
  outputs: string[]
}

/** One run of a stage. */
export interface Step extends StepFiles {
  /** Settings of the stage that name what it reads; the first of `from`, in this order. */
  inputs?: Input[]
  /** What it is made from: `STEP/FILE` of a step, else the hash of a content. */
  from: string[]
  identity: Record<string, unknown>
  /** What its last run left undone, in words. */
  unfinished?(): Promise<string | undefined>
  run(context: StageContext): Promise<StageResult>
}

const stepFile = z.strictObject({
  format: z.literal(1),
  version: z.string(),
  stage: z.string(),
  settings: z.record(z.string(), z.unknown()),
  from: z.array(z.string()),
  summary: z.string(),
  /** Wall time of the attempt that completed it. */
  seconds: z.number(),
  bytes: z.number(),
})

/** What a finished step says of itself. */
export type FinishedStep = z.output<typeof stepFile>

const failureFile = z.strictObject({ step: z.string(), code: z.string(), message: z.string() })

/** Why a step could not be done. */
export type Failure = z.output<typeof failureFile>

export const stepsFolder = (root: string): string => join(root, 'steps')
const failuresFolder = (root: string): string => join(root, 'failures')
const markOf = ({ folder }: Pick<Step, 'folder'>): string => join(folder, 'step.json')
const failureOf = (root: string, { name }: Pick<Step, 'name'>): string => join(failuresFolder(root), `${name}.json`)

/** Whether it is complete. A result that was deleted since is made again. */
export const isDone = (step: StepFiles): boolean =>
  existsSync(markOf(step)) && step.outputs.every((path) => existsSync(path))

/** Says that a step is complete; the last thing that is written of it. */
export async function markDone(
  root: string,
  step: Step,
  about: Pick<FinishedStep, 'summary' | 'seconds'>,
): Promise<void> {
  const { stage, identity, from, folder } = step
  const { summary, seconds } = about
  const bytes = await sizeOf(folder)
  const finished: FinishedStep = { format: 1, version, stage, settings: identity, from, summary, seconds, bytes }
  await writeJson(markOf(step), finished)
  await deleteAll([failureOf(root, step)])
}

/** Every finished step of a study, whatever arm it was for. */
export async function readSteps(root: string): Promise<FinishedStep[]> {
  const names = existsSync(stepsFolder(root)) ? await readdir(stepsFolder(root)) : []
  const found: FinishedStep[] = []
  for (const name of names) {
    const text = await readTextIfThere(join(stepsFolder(root), name, 'step.json'))
    const parsed = text === undefined ? undefined : stepFile.safeParse(JSON.parse(text))
    if (parsed?.success) found.push(parsed.data)
  }
  return found
}

/** Writes down why a step failed, for the page and for other workers; a later run tries it again. */
export async function markFailed(root: string, step: Step, error: unknown): Promise<void> {
  const code = error instanceof FireError ? error.code : 'ERR_FIRE_INTERNAL'
  // Where the folder lies is no part of the results.
  const message = reasonOf(error)
    .replaceAll(`${resolve(root)}/`, '')
    .replaceAll(`${root}/`, '')
  const failure: Failure = { step: step.name, code, message }
  await writeJson(failureOf(root, step), failure)
}

/** Undefined where it did not fail. */
export async function readFailure(root: string, step: StepFiles): Promise<Failure | undefined> {
  const text = await readTextIfThere(failureOf(root, step))
  return text === undefined ? undefined : failureFile.parse(JSON.parse(text))
}

/** What failed before is tried again. */
export const forgetFailures = (root: string): Promise<void> => deleteAll([failuresFolder(root)])

async function sizeOf(folder: string): Promise<number> {
  let bytes = 0
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size
  }
  return bytes
}
