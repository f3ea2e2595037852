/** What one arm came to with one seed, read from its finished evaluation. */
import { join } from 'node:path'
import { readJsonl } from '../data/jsonl.js'
import { evaluationFiles } from '../evaluate/files.js'
import { type EvaluationResults, readEvaluation } from '../evaluate/index.js'
import { type VerdictRecord, verdictRecord } from '../evaluate/records.js'
import { groupOf } from './metrics.js'
import type { Run } from './plan.js'
import { type Metric, metrics } from './settings.js'
import { isFailure, type Standing } from './standing.js'
import type { StepFiles } from './steps.js'

type SampledResults = NonNullable<EvaluationResults['systems'][number]['sampled']>
type RewardResults = EvaluationResults['rewards'][number]

/** An answer as comparisons need it. */
export interface CountedAnswer extends Pick<VerdictRecord, 'imageId' | 'closedUnder'> {
  id: string
  isRight: boolean
}

/** The numbers of a run, or why there are none. */
export interface RunNumbers {
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
  rewards: RewardResults | null
  /** Further evaluations that are not done, and why. */
  unfinished: { state: 'missing' | 'failed'; why: string }[]
  /** First answers in the order of the questions. */
  answers: CountedAnswer[] | null
}

/**
 * @param standings of all steps that the run needs.
 * @throws {DataError} for an evaluation that was changed by hand into something else.
 */
export async function readRun(run: Run<StepFiles>, standings: ReadonlyMap<string, Standing>): Promise<RunNumbers> {
  const { arm, seed, steps, tuned, evaluations, waitsFor } = run
  const about = { arm, seed, steps: steps.map(({ name }) => name), tuned }
  const last = evaluations['']
  if (waitsFor || standings.get(last.name) !== 'done') {
    const nothing = { sampled: null, rewards: null, unfinished: [], groups: null, words: null, answers: null }
    return { ...about, ...reasonOf(waitsFor ?? last, standings), ...nothing }
  }
  const results = await readEvaluation(last.folder)
  const groups = Object.fromEntries(metrics.map((metric) => [metric, groupOf(results, metric)]))
  return {
    ...{ ...about, state: 'done', why: null },
    groups: groups as RunNumbers['groups'],
    words: results.systems[0].groups[0]?.words ?? null,
    ...(await readFurther(evaluations, standings)),
    answers: await answersOf(join(last.folder, evaluationFiles.verdicts)),
  }
}

/** Why a step is not done: what failed may be far before it. */
function reasonOf(
  { name }: StepFiles,
  standings: ReadonlyMap<string, Standing>,
): { state: 'missing' | 'failed'; why: string } {
  const standing = standings.get(name) as Standing
  return isFailure(standing)
    ? { state: 'failed', why: `${standing.step}: ${standing.message}` }
    : { state: 'missing', why: `${name} is not done` }
}

async function readFurther(
  evaluations: Run<StepFiles>['evaluations'],
  standings: ReadonlyMap<string, Standing>,
): Promise<Pick<RunNumbers, 'sampled' | 'rewards' | 'unfinished'>> {
  const found: Pick<RunNumbers, 'sampled' | 'rewards' | 'unfinished'> = { sampled: null, rewards: null, unfinished: [] }
  for (const [name, step] of Object.entries(evaluations)) {
    if (name === '') continue
    if (standings.get(step.name) !== 'done') {
      const { state, why } = reasonOf(step, standings)
      found.unfinished.push({ state, why: `evaluation ${name}: ${why}` })
      continue
    }
    const { systems, rewards } = await readEvaluation(step.folder)
    found.sampled ??= systems[0].sampled
    found.rewards ??= rewards[0] ?? null
  }
  return found
}

async function answersOf(path: string): Promise<CountedAnswer[]> {
  const answers: CountedAnswer[] = []
  for await (const { record } of readJsonl(path, verdictRecord)) {
    const { sampleId: id, imageId, closedUnder, verdict, k } = record
    if (k === 0) answers.push({ id, imageId, closedUnder, isRight: verdict === 'correct' })
  }
  return answers
}
