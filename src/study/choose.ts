/** The choice of a tuned value: a step like any other, whose result is kept with the accuracies that decided. */
import { join } from 'node:path'
import { sha256, writeJson } from '../data/files.js'
import { TrainingError } from '../errors.js'
import { readEvaluation } from '../evaluate/index.js'
import { version } from '../version.js'
import { groupOf } from './metrics.js'
import type { Tune } from './settings.js'
import { failureBefore } from './standing.js'
import { isDone, type Step, stepsFolder } from './steps.js'

/** What choice.json holds. */
export interface Choice {
  setting: string
  metric: Tune['metric']
  /** `out` says why a value cannot be chosen: its training diverged or taught nothing. It has no answers then. */
  trials: { value: number; successes: number; count: number; out: string | null }[]
  /** The value with the most right answers; of equal ones the smallest. */
  chosen: number
}

/** A value that an arm has from a choice, and the trials behind it. */
export interface Tuned {
  setting: string
  value: number
  trials: Choice['trials']
}

/** @param text of choice.json. */
export function chosenBy(text: string): Tuned {
  const { setting, chosen, trials } = JSON.parse(text) as Choice
  return { setting, value: chosen, trials }
}

/** The value stands at the end of those that were tried, so that one beyond may be better. */
export function edgeOf({ value, trials }: Tuned): 'smallest' | 'largest' | null {
  const values = trials.map((each) => each.value)
  if (values.length < 2) return null
  return value === Math.min(...values) ? 'smallest' : value === Math.max(...values) ? 'largest' : null
}

/**
 * The step that looks at trials that are evaluated.
 * @param steps of the study, which say why a trial has no evaluation.
 */
export function chooseStep(
  root: string,
  { setting, metric }: Tune,
  trials: readonly { value: number; evaluation: Step }[],
  steps: ReadonlyMap<string, Step>,
): Step {
  const identity = { setting, metric, values: trials.map(({ value }) => value) }
  const from = trials.map(({ evaluation }) => `${evaluation.name}/evaluation.json`)
  const name = `choose-${sha256(JSON.stringify([version, identity, from])).slice(0, 12)}`
  const folder = join(stepsFolder(root), name)
  const path = join(folder, 'choice.json')
  return {
    ...{ name, stage: 'choose', folder, from, identity, outputs: [path] },
    needs: trials.map(({ evaluation }) => evaluation.name),
    async run() {
      const counted: Choice['trials'] = []
      for (const { value, evaluation } of trials) {
        const out = isDone(evaluation) ? null : ((await failureBefore(root, evaluation, steps))?.message ?? 'no result')
        const group = out === null ? groupOf(await readEvaluation(evaluation.folder), metric) : none
        counted.push({ value, ...group, out })
      }
      const best = Math.max(...counted.map(({ out, successes }) => (out === null ? successes : -1)))
      if (best < 0) throw new TrainingError(`No value of ${setting} can be chosen: ${counted[0].out}`)
      const ofBest = counted.filter(({ out, successes }) => out === null && successes === best)
      const chosen = Math.min(...ofBest.map(({ value }) => value))
      const choice: Choice = { setting, metric, trials: counted, chosen }
      await writeJson(path, choice)
      return { interrupted: false, summary: `${setting} = ${chosen}` }
    },
  }
}

const none = { successes: 0, count: 0 }
