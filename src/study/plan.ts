/** What a study is to do, decided before anything runs and kept in its folder: a report needs neither model nor data. */
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { z } from 'zod'
import { readTextIfThere, sha256, writeJson } from '../data/files.js'
import { FileError } from '../errors.js'
import { chosenBy, type Tuned } from './choose.js'
import { studyFiles } from './files.js'
import type { Study } from './load.js'
import { isDone, type Step, type StepFiles, stepsFolder } from './steps.js'

const branch = z.strictObject({
  /** The tuned value; null where nothing is tuned. */
  value: z.number().nullable(),
  /** Names in the order they run. */
  steps: z.array(z.string()),
  /** The evaluation of the tables under `''`, further ones under their names. */
  evaluations: z.record(z.string(), z.string()),
})

const plannedRun = z.strictObject({
  arm: z.string(),
  seed: z.number(),
  /** Name of the step that chooses among the branches; null where there is one. */
  choice: z.string().nullable(),
  branches: z.array(branch),
})

/** One arm with one seed, for every value that may be chosen for it. */
export type PlannedRun = z.output<typeof plannedRun>

/** Every run, and every step that one of them may need, each after those that it needs itself. */
export interface Plan<S extends StepFiles = Step> {
  runs: PlannedRun[]
  steps: Map<string, S>
}

/** One arm with one seed, by what is chosen for it. */
export interface Run<S extends StepFiles = Step> {
  arm: string
  seed: number
  /** In the order they run; none while it waits. */
  steps: S[]
  /** The evaluation of the tables under `''`, further ones under their names. */
  evaluations: Record<string, S>
  /** The choice that the rest depends on, until it is made. */
  waitsFor: S | null
  /** What was chosen for it. */
  tuned: Tuned | null
}

/** A plan as it stands. */
export interface Graph<S extends StepFiles = Step> {
  runs: Run<S>[]
  /** Those that the runs need, each after what it needs itself. */
  steps: Map<string, S>
}

/** @param assume take runs that wait as if the first value were chosen; for estimates. */
export function asItStands<S extends StepFiles>(plan: Plan<S>, { assume = false } = {}): Graph<S> {
  const runs = plan.runs.map((run) => runOf(plan, run, assume))
  return { runs, steps: stepsOf(plan, runs) }
}

function runOf<S extends StepFiles>({ steps }: Plan<S>, planned: PlannedRun, assume: boolean): Run<S> {
  const { arm, seed, choice, branches } = planned
  const step = (name: string): S => steps.get(name) as S
  const waitsFor = choice !== null && !isDone(step(choice)) ? step(choice) : null
  const tuned = choice !== null && !waitsFor ? chosenBy(readFileSync(step(choice).outputs[0], 'utf8')) : null
  const taken = waitsFor ? branches[0] : branches.find(({ value }) => value === (tuned?.value ?? null))
  const run: Run<S> = { arm, seed, steps: [], evaluations: {}, waitsFor, tuned }
  if (!taken || (waitsFor && !assume)) return run
  const evaluations = Object.entries(taken.evaluations).map(([name, each]) => [name, step(each)])
  return { ...run, steps: taken.steps.map(step), evaluations: Object.fromEntries(evaluations) }
}

/** The steps of some runs and of the trials that they wait for, each after what it needs. */
export function stepsOf<S extends StepFiles>({ steps }: Plan<S>, runs: readonly Run<S>[]): Map<string, S> {
  const found = new Map<string, S>()
  const visit = (step: S): void => {
    if (found.has(step.name)) return
    for (const name of step.needs) visit(steps.get(name) as S)
    found.set(step.name, step)
  }
  for (const { waitsFor, steps: own } of runs) for (const step of [...(waitsFor ? [waitsFor] : []), ...own]) visit(step)
  return found
}

const planFile = z.strictObject({
  format: z.literal(1),
  runs: z.array(plannedRun),
  /** By name; outputs are below the folder of the step. */
  steps: z.record(
    z.string(),
    z.strictObject({ stage: z.string(), needs: z.array(z.string()), outputs: z.array(z.string()) }),
  ),
})

/** Two studies with one are the same study, wherever their files lie. */
export const idOf = ({ title, tables, margin, draws, small }: Study, plan: Plan): string =>
  sha256(JSON.stringify([title, tables, margin, draws, small, plan.runs])).slice(0, 12)

export async function writePlan(root: string, { runs, steps }: Plan): Promise<void> {
  const described = [...steps.values()].map(({ name, stage, needs, outputs, folder }) => [
    name,
    { stage, needs, outputs: outputs.map((path) => relative(folder, path)) },
  ])
  await writeJson(join(root, studyFiles.plan), { format: 1, runs, steps: Object.fromEntries(described) })
}

/** @throws {FileError} when the folder has none, or another version wrote it in another form. */
export async function readPlan(root: string): Promise<Plan<StepFiles>> {
  const path = join(root, studyFiles.plan)
  const text = await readTextIfThere(path)
  const refuse = (what: string, cause?: unknown): FileError =>
    new FileError(`${path} ${what}`, {
      detail: { path },
      hint: 'Name the folder of a study, or run the study there: what is finished is not done again.',
      cause,
    })
  if (text === undefined) throw refuse('is missing: it holds what the study is to do')
  try {
    const { runs, steps } = planFile.parse(JSON.parse(text))
    const found = Object.entries(steps).map(([name, { stage, needs, outputs }]): [string, StepFiles] => {
      const folder = join(stepsFolder(root), name)
      return [name, { name, stage, folder, needs, outputs: outputs.map((each) => join(folder, each)) }]
    })
    return { runs, steps: new Map(found) }
  } catch (error) {
    throw refuse('is no plan that this version knows', error)
  }
}
