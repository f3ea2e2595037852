/** What one arm came to with one seed, read from its finished evaluation. */
import { type EvaluationResults, readEvaluation } from '../evaluate/index.js'
import { drawnMeasures, readRewards, readVerdicts, rewardMeasures } from './further.js'
import { type CountedAnswer, groupOf, type Measured } from './metrics.js'
import type { Run } from './plan.js'
import { type Metric, metrics } from './settings.js'
import { isFailure, type Standing } from './standing.js'
import type { StepFiles } from './steps.js'

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
  /** Questions about images that were trained on. */
  seen: number
  /** Of its further evaluations, those that are done and have them. */
  sampled: SampledResults | null
  /** On the held-out pairs, and on its own. */
  rewards: RewardResults[]
  /** Further evaluations that are not done, and why. */
  unfinished: { state: 'missing' | 'failed'; why: string }[]
}

type Standings = ReadonlyMap<string, Standing>

/**
 * @param root folder of the study. @param standings of all steps that the run needs.
 * @throws {DataError} for an evaluation that was changed by hand into something else.
 */
export async function readRun(root: string, run: Run<StepFiles>, standings: Standings): Promise<RunNumbers> {
  const { arm, seed, steps, tuned, evaluations, waitsFor } = run
  const about = { arm, seed, steps: steps.map(({ name }) => name), tuned }
  const last = evaluations['']
  if (waitsFor || standings.get(last.name) !== 'done') {
    const nothing = { seen: 0, sampled: null, rewards: [], unfinished: [], measured: {} }
    return {
      ...{ ...about, ...reasonOf(waitsFor ?? last, standings), ...nothing },
      ...{ groups: null, words: null, answers: null },
    }
  }
  const results = await readEvaluation(last.folder)
  const groups = Object.fromEntries(metrics.map((metric) => [metric, groupOf(results, metric)]))
  return {
    ...{ ...about, state: 'done', why: null },
    groups: groups as RunNumbers['groups'],
    words: results.systems[0].groups[0]?.words ?? null,
    seen: results.leakage?.seen ?? 0,
    ...(await readFurther(root, run, standings)),
    answers: await answersOf(last.folder),
  }
}

/** Why a step is not done: what failed may be far before it. */
function reasonOf({ name }: StepFiles, standings: Standings): { state: 'missing' | 'failed'; why: string } {
  const standing = standings.get(name) as Standing
  return isFailure(standing)
    ? { state: 'failed', why: `${standing.step}: ${standing.message}` }
    : { state: 'missing', why: `${name} is not done` }
}

type Further = Pick<RunNumbers, 'sampled' | 'rewards' | 'unfinished' | 'measured'>

async function readFurther(
  root: string,
  { evaluations, steps }: Run<StepFiles>,
  standings: Standings,
): Promise<Further> {
  const found: Further = { sampled: null, rewards: [], unfinished: [], measured: {} }
  const train = steps.find(({ stage }) => stage === 'train')
  for (const [name, step] of Object.entries(evaluations)) {
    if (name === '') continue
    if (standings.get(step.name) !== 'done') {
      const { state, why } = reasonOf(step, standings)
      found.unfinished.push({ state, why: `evaluation ${name}: ${why}` })
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
      const { heldOut } = await readRewards(root, [step.folder], train.folder)
      Object.assign(found.measured, rewardMeasures(heldOut))
    }
  }
  return found
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
