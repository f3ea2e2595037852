/** What one arm came to with one seed, read from its finished evaluation. */
import { join } from 'node:path'
import { readJsonl } from '../data/jsonl.js'
import { evaluationFiles } from '../evaluate/files.js'
import { type EvaluationResults, readEvaluation } from '../evaluate/index.js'
import { type VerdictRecord, verdictRecord } from '../evaluate/records.js'
import type { Run } from './graph.js'
import { groupOf } from './metrics.js'
import { type Metric, metrics } from './settings.js'
import { isDone, readFailure } from './steps.js'

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
  unfinished: string[]
  /** First answers in the order of the questions. */
  answers: CountedAnswer[] | null
}

/** @throws {DataError} for an evaluation that was changed by hand into something else. */
export async function readRun(root: string, run: Run): Promise<RunNumbers> {
  const { arm, seed, steps, tuned, evaluations, waitsFor } = run
  const about = { arm, seed, steps: steps.map(({ name }) => name), tuned }
  const nothing = { sampled: null, rewards: null, unfinished: [] }
  const none = { ...about, ...nothing, groups: null, words: null, answers: null }
  const last = evaluations['']
  if (last && isDone(last)) {
    const results = await readEvaluation(last.folder)
    const groups = Object.fromEntries(metrics.map((metric) => [metric, groupOf(results, metric)]))
    return {
      ...{ ...about, state: 'done', why: null },
      groups: groups as RunNumbers['groups'],
      words: results.systems[0].groups[0]?.words ?? null,
      ...(await readFurther(root, evaluations)),
      answers: await answersOf(join(last.folder, evaluationFiles.verdicts)),
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

async function readFurther(
  root: string,
  evaluations: Run['evaluations'],
): Promise<Pick<RunNumbers, 'sampled' | 'rewards' | 'unfinished'>> {
  const found: Pick<RunNumbers, 'sampled' | 'rewards' | 'unfinished'> = { sampled: null, rewards: null, unfinished: [] }
  for (const [name, step] of Object.entries(evaluations)) {
    if (name === '') continue
    if (!isDone(step)) {
      const failure = await readFailure(root, step)
      found.unfinished.push(`evaluation ${name}: ${failure ? failure.message : `${step.name} is not done`}`)
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
