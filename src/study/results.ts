/** study.json: every arm with every seed, what is missing, and what may be said of the differences. */
import { isAbsolute, relative } from 'node:path'
import { isTree } from '../settings/source.js'
import { holm } from '../statistics/index.js'
import { version } from '../version.js'
import { type ComparedArms, compareArms, conclude } from './compare.js'
import { armsOf } from './graph.js'
import type { Study } from './load.js'
import { type SeedMean, seedMean } from './means.js'
import { isMeasure, itemsOf } from './metrics.js'
import { type RunNumbers, readRun } from './numbers.js'
import type { Graph, Run } from './plan.js'
import { type Measure, type Metric, metrics, type Table } from './settings.js'
import { standingsOf } from './standing.js'
import type { StepFiles } from './steps.js'

/** One arm. */
export interface ArmResults {
  name: string
  words: string
  row: string | null
  set: Record<string, unknown>
  seeds: Omit<RunNumbers, 'arm' | 'answers' | 'measured'>[]
  /** Null while a seed is missing: nothing is averaged over what is there. */
  means: Record<Metric, SeedMean | null>
}

/** Arms held side by side. */
export interface TableResults extends Omit<Table, 'primary' | 'optional'> {
  name: string
  /** Null where an arm of it is not run. */
  primary: ComparedArms | null
  /** Every other arm against the baseline, on each accuracy and the primary metric; Holm is over the arms of each. */
  comparisons: ComparedArms[]
}

/** What study.json holds: nothing of it depends on when, where and in what order it was computed. */
export interface StudyResults {
  format: 1
  version: string
  title: string
  seeds: number[]
  margin: number
  draws: number
  small: boolean
  arms: ArmResults[]
  tables: TableResults[]
  /** Arms of equal settings: each group is one run under several names. */
  oneRun: string[][]
  /** Cells without a number, and why. */
  missing: { arm: string; seed: number; state: 'missing' | 'failed'; why: string }[]
}

/** Reads whatever is finished. */
export async function collectResults(
  study: Study,
  root: string,
  { runs, steps }: Graph<StepFiles>,
): Promise<StudyResults> {
  const { title, seeds, margin, draws, small } = study
  const numbers: RunNumbers[] = []
  const standings = await standingsOf(root, steps)
  for (const run of runs) numbers.push(await readRun(root, run, standings))
  const arms = armsOf(study)
  return {
    ...{ format: 1, version, title, seeds, margin, draws, small },
    arms: arms.map((name) =>
      armResults(
        study,
        name,
        root,
        numbers.filter(({ arm }) => arm === name),
      ),
    ),
    tables: Object.keys(study.tables).map((name) => tableResults(study, name, arms, numbers)),
    oneRun: sameRuns(runs),
    missing: numbers.flatMap(({ arm, seed, state, why, unfinished }) =>
      state === 'done'
        ? unfinished.map((each) => ({ arm, seed, ...each }))
        : [{ arm, seed, state, why: why as string }],
    ),
  }
}

function sameRuns(runs: readonly Run<StepFiles>[]): string[][] {
  const byArm = new Map<string, string[]>()
  for (const { arm, evaluations } of runs) byArm.set(arm, [...(byArm.get(arm) ?? []), evaluations['']?.name ?? ''])
  const groups = new Map<string, string[]>()
  for (const [arm, names] of byArm) {
    if (!names.includes('')) groups.set(names.join(), [...(groups.get(names.join()) ?? []), arm])
  }
  return [...groups.values()].filter((group) => group.length > 1)
}

/** Paths as they are seen from the folder of the study: nothing tells whose home it lies in. */
function portable(value: unknown, root: string): unknown {
  if (typeof value === 'string') return isAbsolute(value) ? relative(root, value) : value
  if (Array.isArray(value)) return value.map((each) => portable(each, root))
  if (!isTree(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, portable(each, root)]))
}

function armResults({ arms, draws }: Study, name: string, root: string, runs: readonly RunNumbers[]): ArmResults {
  const { words, row = null, set: changes } = arms[name]
  const set = portable(changes, root) as ArmResults['set']
  const isWhole = runs.every(({ state }) => state === 'done')
  const means = metrics.map((metric) => [metric, isWhole ? meanBy(runs, metric, draws) : null])
  const seeds = runs.map(({ arm: _, answers: __, measured: ___, ...rest }) => rest)
  return { name, words, row, set, seeds, means: Object.fromEntries(means) }
}

function meanBy(runs: readonly RunNumbers[], metric: Metric, draws: number): SeedMean | null {
  const items = runs.map((run) => itemsOf(run, metric) ?? [])
  return items.some((each) => each.length === 0) ? null : seedMean(items, { draws })
}

/** @param run the arms that are run. @param numbers of all of them. */
export function tableResults(
  { tables, seeds, margin, draws, small }: Study,
  name: string,
  run: readonly string[],
  numbers: readonly RunNumbers[],
): TableResults {
  const { primary, optional, ...about } = tables[name]
  const { baseline } = about
  const arms = about.arms.filter((arm) => run.includes(arm))
  const options = { seeds, margin, draws, small }
  const others = arms.includes(baseline) ? arms.filter((arm) => arm !== baseline) : []
  const asked = [...new Set([...metrics, primary.metric])]
  const compared = others.flatMap((arm) =>
    asked
      .filter((metric) => !isMeasure(metric) || isMeasured(arm, metric, numbers))
      .map((metric) => compareArms({ arm, baseline, metric }, numbers, options)),
  )
  const isRun = arms.includes(primary.arm) && arms.includes(primary.baseline)
  return {
    ...{ ...about, name, arms },
    primary: isRun ? compareArms(primary, numbers, options) : null,
    comparisons: small ? compared : adjusted(compared, margin),
  }
}

/** Whether an arm has the measure or will have it: one that does not train has no rewards. */
const isMeasured = (name: string, metric: Measure, runs: readonly RunNumbers[]): boolean =>
  runs.some(({ arm, state, unfinished, measured }) => {
    const isWaiting = state !== 'done' || unfinished.length > 0
    return arm === name && (isWaiting || measured[metric] !== undefined)
  })

/** Holm over the arms of each metric. */
function adjusted(compared: readonly ComparedArms[], margin: number): ComparedArms[] {
  const result = [...compared]
  for (const metric of new Set(compared.map((each) => each.metric))) {
    const places = [...compared.keys()].filter((i) => compared[i].metric === metric && compared[i].p !== null)
    const adjustedP = holm(places.map((i) => compared[i].p as number))
    for (const [at, i] of places.entries()) {
      const each = { ...compared[i], holm: adjustedP[at] }
      result[i] = { ...each, conclusion: conclude(each, margin) }
    }
  }
  return result
}
