/** What one arm came to with one seed, read from its finished evaluation. */
import { type EvaluationResults, readEvaluation } from '../evaluate/index.js'
import { drawnMeasures, readRewards, readVerdicts, rewardMeasures } from './further.js'
import type { Run } from './graph.js'
import { type CountedAnswer, groupOf, type Measured } from './metrics.js'
import { type Metric, metrics } from './settings.js'
import { isDone, readFailure, type Step } from './steps.js'

type SampledResults = NonNullable<EvaluationResults['systems'][number]['sampled']>
type RewardResults = EvaluationResults['rewards'][number]

/** The numbers of a run, or why there are none. */
export interface RunNumbers extends Measured {
  arm: string
  seed: number
  state: 'done' | 'missing' | 'failed'
  /** Why it is not done. */
  why: string | null
  /** Names of its steps, from data to evaluation. */
  steps: string[]
  tuned: Run['tuned']
  groups: Record<Metric, { successes: number; count: number }> | null
  /** Mean length of the answers in words. */
  words: number | null
  /** Of its further evaluations, those that are done and have them. */
  sampled: SampledResults | null
  /** On the held-out pairs, and on its own. */
  rewards: RewardResults[]
  /** Further evaluations that are not done, and why. */
  unfinished: string[]
}

/** @throws {DataError} for an evaluation that was changed by hand into something else. */
export async function readRun(root: string, run: Run): Promise<RunNumbers> {
  const { arm, seed, steps, tuned, evaluations, waitsFor } = run
  const about = { arm, seed, steps: steps.map(({ name }) => name), tuned }
  const nothing = { sampled: null, rewards: [], unfinished: [], measured: {} }
  const none = { ...about, ...nothing, groups: null, words: null, answers: null }
  const last = evaluations['']
  if (last && isDone(last)) {
    const results = await readEvaluation(last.folder)
    const groups = Object.fromEntries(metrics.map((metric) => [metric, groupOf(results, metric)]))
    return {
      ...{ ...about, state: 'done', why: null },
      groups: groups as RunNumbers['groups'],
      words: results.systems[0].groups[0]?.words ?? null,
      ...(await readFurther(root, run)),
      answers: await answersOf(last.folder),
    }
  }
  for (const step of [...steps, ...(waitsFor ? [waitsFor] : [])]) {
    const failure = isDone(step) ? undefined : await readFailure(root, step)
    if (failure) return { ...none, state: 'failed', why: `${failure.step}: ${failure.message}` }
  }
  const next = steps.find((step) => !isDone(step))
  const why = waitsFor ? `its ${waitsFor.name} is not done` : next ? `${next.name} is not done` : 'not begun'
  return { ...none, state: 'missing', why }
}

type Further = Pick<RunNumbers, 'sampled' | 'rewards' | 'unfinished' | 'measured'>

async function readFurther(root: string, { evaluations, steps }: Run): Promise<Further> {
  const found: Further = { sampled: null, rewards: [], unfinished: [], measured: {} }
  const train = steps.find(({ stage }) => stage === 'train')
  for (const [name, step] of Object.entries(evaluations)) {
    if (name === '') continue
    if (!isDone(step)) {
      const failure = await readFailure(root, step)
      found.unfinished.push(`evaluation ${name}: ${failure ? failure.message : `${step.name} is not done`}`)
      continue
    }
    const { systems, rewards } = await readEvaluation(step.folder)
    const { sampled } = systems[0]
    if (sampled && !found.sampled) {
      found.sampled = sampled
      Object.assign(found.measured, drawnMeasures(await readVerdicts(step.folder), sampled.answers))
    }
    if (rewards.length > 0 && train && found.rewards.length === 0) {
      found.rewards = rewards
      Object.assign(found.measured, await rewardsOf(root, step, train))
    }
  }
  return found
}

async function rewardsOf(root: string, evaluation: Step, train: Step): Promise<RunNumbers['measured']> {
  const { heldOut } = await readRewards(root, [evaluation.folder], train.folder)
  return rewardMeasures(heldOut)
}

async function answersOf(folder: string): Promise<CountedAnswer[]> {
  const records = await readVerdicts(folder)
  return records
    .filter(({ k }) => k === 0)
    .map(({ sampleId: id, imageId, closedUnder, verdict }) => ({
      ...{ id, imageId, closedUnder },
      isRight: verdict === 'correct',
    }))
}
