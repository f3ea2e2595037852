/** What a study would cost, before anything starts. */
import { fileURLToPath } from 'node:url'
import { sharedSettings } from '../pipeline/index.js'
import type { Study } from './load.js'
import type { Graph, Run } from './plan.js'
import { type FinishedStep, isDone, readSteps, type Step } from './steps.js'

/** Steps of one stage that are still to be done. */
export interface StageEstimate {
  stage: string
  done: number
  todo: number
  /** Of one step; null where no step of the stage is finished and the model is not the bundled one. */
  seconds: number | null
  bytes: number | null
  /** Measured on finished steps of this folder, or taken from the table below. */
  from: 'finished steps' | 'table' | null
}

/** What `--dry-run` says. */
export interface Estimate {
  arms: string[]
  seeds: number[]
  /** Runs that have their training in common, as `arm/seed`; of each, one is computed. */
  shared: string[][]
  stages: StageEstimate[]
  /** Null where the cost of a stage is not known. */
  seconds: number | null
  bytes: number | null
  /** MiB that the feature store takes at most, beside the steps. */
  featureStoreSize: number
  /** Arms whose tuned value is not chosen yet: their steps are counted as if it were the first one. */
  waiting: string[]
}

/** Seconds and bytes of a step with the bundled model and as many studies, estimated for two idle cores. */
const bundledModel = fileURLToPath(new URL('../../models/phantom', import.meta.url))
const tabled = { trainStudies: 200, testStudies: 300 }
const table: Record<string, { seconds: number; bytes: number }> = {
  import: { seconds: 2, bytes: 4e6 },
  sample: { seconds: 3, bytes: 0.3e6 },
  pairs: { seconds: 1, bytes: 1.5e6 },
  corrupt: { seconds: 3, bytes: 8e6 },
  train: { seconds: 12, bytes: 1.3e6 },
  choose: { seconds: 0, bytes: 1e3 },
  evaluate: { seconds: 3, bytes: 3e6 },
}

/** @param graph planned with `assume`. */
export async function estimate(study: Study, root: string, { runs, steps }: Graph): Promise<Estimate> {
  const finished = await readSteps(root)
  const isBundled = study.base.import !== undefined && study.base.model === bundledModel
  const scale = scaleOf(steps)
  const stages = Object.keys(table).map((stage) => {
    const own = [...steps.values()].filter((step) => step.stage === stage)
    return {
      stage,
      ...countDone(own),
      ...costOf(stage, finished, isBundled ? scale[stage === 'evaluate' ? 'testStudies' : 'trainStudies'] : null),
    }
  })
  const present = stages.filter(({ done, todo }) => done + todo > 0)
  const total = (key: 'seconds' | 'bytes'): number | null =>
    present.reduce<number | null>((sum, each) => {
      const one = each.todo === 0 ? 0 : each[key]
      return sum === null || one === null ? null : sum + each.todo * one
    }, 0)
  return {
    arms: [...new Set(runs.map(({ arm }) => arm))],
    seeds: study.seeds,
    shared: sharedRuns(runs),
    stages: present,
    seconds: total('seconds'),
    bytes: total('bytes'),
    featureStoreSize: sharedSettings.shape.featureStoreSize.parse(study.base.featureStoreSize),
    waiting: [...new Set(runs.filter(({ waitsFor }) => waitsFor).map(({ arm }) => arm))],
  }
}

/** How many studies the largest world has, to those of the table. */
function scaleOf(steps: Graph['steps']): typeof tabled {
  const worlds = [...steps.values()].filter(({ stage }) => stage === 'import').map(({ identity }) => identity)
  const most = (key: keyof typeof tabled): number => Math.max(...worlds.map((each) => Number(each[key] ?? 0)))
  return {
    trainStudies: most('trainStudies') / tabled.trainStudies,
    testStudies: most('testStudies') / tabled.testStudies,
  }
}

function countDone(steps: readonly Step[]): { done: number; todo: number } {
  const done = steps.filter(isDone).length
  return { done, todo: steps.length - done }
}

function costOf(
  stage: string,
  finished: readonly FinishedStep[],
  scale: number | null,
): Pick<StageEstimate, 'seconds' | 'bytes' | 'from'> {
  const own = finished.filter((step) => step.stage === stage)
  const mean = (key: 'seconds' | 'bytes'): number => own.reduce((sum, step) => sum + step[key], 0) / own.length
  if (own.length > 0) return { seconds: mean('seconds'), bytes: mean('bytes'), from: 'finished steps' }
  if (scale !== null) {
    const { seconds, bytes } = table[stage]
    return { seconds: scale * seconds, bytes: scale * bytes, from: 'table' }
  }
  return { seconds: null, bytes: null, from: null }
}

function sharedRuns(runs: readonly Run[]): string[][] {
  const byTraining = new Map<string, string[]>()
  for (const { arm, seed, steps } of runs) {
    const training = steps.find(({ stage }) => stage === 'train')?.name
    if (training) byTraining.set(training, [...(byTraining.get(training) ?? []), `${arm}/${seed}`])
  }
  return [...byTraining.values()].filter((names) => names.length > 1)
}
