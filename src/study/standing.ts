/** How far a step is, by what it needs. */
import { NumericError, TrainingError } from '../errors.js'
import { type Failure, isDone, readFailure, type StepFiles } from './steps.js'

/** `ready`: nothing stands before it. `waiting`: something that it needs is to be done first. */
export type Standing = 'done' | 'ready' | 'waiting' | Failure

/** How far the steps are, each after what it needs; one that cannot be done has the failure that it is for. */
export async function standingsOf<S extends StepFiles>(
  root: string,
  steps: ReadonlyMap<string, S>,
): Promise<Map<string, Standing>> {
  const found = new Map<string, Standing>()
  for (const [name, step] of steps) {
    const needs = step.needs.map((each) => found.get(each) ?? 'waiting')
    found.set(name, isDone(step) ? 'done' : ((await readFailure(root, step)) ?? standingAfter(step, needs)))
  }
  return found
}

/** A training that went wrong by its settings does so again. */
const diverged: readonly string[] = [TrainingError.code, NumericError.code]

function standingAfter({ stage }: StepFiles, needs: readonly Standing[]): Standing {
  // A value whose training diverged is out, and the choice is among the others.
  const isOut = (each: Standing): boolean => stage === 'choose' && isFailure(each) && diverged.includes(each.code)
  const open = needs.filter((each) => each !== 'done' && !isOut(each))
  return open.find(isFailure) ?? (open.length === 0 ? 'ready' : 'waiting')
}

export const isFailure = (standing: Standing): standing is Failure => typeof standing !== 'string'

/** Why a step cannot be done; undefined where nothing speaks against it. */
export async function failureBefore<S extends StepFiles>(
  root: string,
  step: S,
  steps: ReadonlyMap<string, S>,
): Promise<Failure | undefined> {
  const own = await readFailure(root, step)
  if (own) return own
  for (const name of step.needs) {
    const needed = steps.get(name)
    const failure = needed && !isDone(needed) ? await failureBefore(root, needed, steps) : undefined
    if (failure) return failure
  }
  return undefined
}
