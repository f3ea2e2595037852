/** The choice of a tuned value: a step like any other, whose result is kept with the accuracies that decided. */
import { join } from 'node:path'
import { sha256, writeJson } from '../data/files.js'
import { readEvaluation } from '../evaluate/index.js'
import { version } from '../version.js'
import { groupOf } from './metrics.js'
import type { Tune } from './settings.js'
import { type Step, stepsFolder } from './steps.js'

/** What choice.json holds. */
export interface Choice {
  setting: string
  metric: Tune['metric']
  trials: { value: number; successes: number; count: number }[]
  /** The value with the most right answers; of equal ones the smallest. */
  chosen: number
}

/** A value that an arm has from a choice, and the trials behind it; none where it was only assumed. */
export interface Tuned {
  setting: string
  value: number
  trials: Choice['trials']
}

/** The value stands at the end of those that were tried, so that one beyond may be better. */
export function edgeOf({ value, trials }: Tuned): 'smallest' | 'largest' | null {
  const values = trials.map((each) => each.value)
  if (values.length < 2) return null
  return value === Math.min(...values) ? 'smallest' : value === Math.max(...values) ? 'largest' : null
}

/** The step that looks at trials that are evaluated. */
export function chooseStep(
  root: string,
  { setting, metric }: Tune,
  trials: readonly { value: number; evaluation: Step }[],
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
        const { successes, count } = groupOf(await readEvaluation(evaluation.folder), metric)
        counted.push({ value, successes, count })
      }
      const best = Math.max(...counted.map(({ successes }) => successes))
      const chosen = Math.min(...counted.filter(({ successes }) => successes === best).map(({ value }) => value))
      const choice: Choice = { setting, metric, trials: counted, chosen }
      await writeJson(path, choice)
      return { interrupted: false, summary: `${setting} = ${chosen}` }
    },
  }
}
