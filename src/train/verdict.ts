/** Whether a run that came to its end learned anything: read off its metrics, so that a resumed run is judged as a whole. */
import { z } from 'zod'
import { readJsonl } from '../data/jsonl.js'
import { type ObjectiveName, objectives } from '../engine/objectives.js'

/** Metrics leave out what is not finite. */
const measured = z.number().default(Number.POSITIVE_INFINITY)

const step = z.looseObject({
  step: z.number(),
  loss: measured,
  'loss/base': measured,
  grad_norm: measured,
  weight: z.number().default(1),
})

const evaluation = z.looseObject({
  step: z.number(),
  'eval_loss/base': measured,
  'eval_loss/base_error': measured,
  eval_weight: z.number().default(1),
})

type Row = z.output<typeof step>
type HeldOutRow = z.output<typeof evaluation>

/** What is to be said of a run. */
export interface Verdict {
  /** Why its adapter is not to be used; `null`: nothing speaks against it. */
  problem: string | null
  /** The problem is that of every adapter that was evaluated, so the best of them is not to be used either. */
  concernsBest: boolean
  warnings: string[]
}

/**
 * What metrics.jsonl says of a run, in words.
 * @param startsAtReference policy and reference were equal before the first step.
 */
export async function readVerdict(
  metrics: string,
  objective: ObjectiveName,
  startsAtReference = true,
): Promise<Verdict> {
  const rows: Row[] = []
  const heldOut: HeldOutRow[] = []
  for await (const { record } of readJsonl(metrics, z.looseObject({ eval_loss: z.number().optional() }))) {
    if (record.eval_loss !== undefined) heldOut.push(evaluation.parse(record))
    else rows.push(step.parse(record))
  }
  const counted = rows.filter(({ weight }) => weight > 0)
  const startsAtLn2 = startsAtReference && objectives[objective].startsAtLn2
  const trained = zeroGradient(counted) ?? growth(counted) ?? (startsAtLn2 ? preference(counted) : null)
  const held = startsAtLn2 ? onHeldOut(heldOut.filter(({ eval_weight: weight }) => weight > 0)) : noWord
  return { ...held, problem: trained ?? held.problem }
}

const noWord: Verdict = { problem: null, concernsBest: false, warnings: [] }

/** What rounding leaves of ln 2 in a policy that equals its reference. */
const rounding = 1e-6

/** Before training -log sigmoid(margin) is ln 2 on the held-out pairs too: none below it is no gain, one well above it a loss. */
function onHeldOut(rows: readonly HeldOutRow[]): Verdict {
  const last = rows.at(-1)
  if (!last) return noWord
  const losses = rows.map((each) => each['eval_loss/base'] / each.eval_weight)
  const [loss, error] = [losses[losses.length - 1], last['eval_loss/base_error']]
  const isWorse = loss >= 1.05 * Math.LN2 && loss - 2 * error >= Math.LN2
  const isNeverBetter = Math.min(...losses) > Math.LN2 - rounding
  const shown = `${loss.toFixed(3)}${Number.isFinite(error) ? ` ± ${error.toFixed(3)}` : ''}`
  const values = `their preference loss is ${shown} after step ${last.step}, and ln 2 = 0.693 of an untrained model`
  if (isWorse && isNeverBetter) {
    return { ...noWord, problem: `training made the held-out pairs worse: ${values}`, concernsBest: true }
  }
  if (isNeverBetter)
    return {
      ...noWord,
      warnings: [`no evaluation of the held-out pairs is better than the untrained model: ${values}`],
    }
  if (!isWorse) return noWord
  const warning = `the last adapter is worse on the held-out pairs than the untrained model, an earlier one was better: ${values}`
  return { ...noWord, warnings: [warning] }
}

/** No loss of this family has a gradient of exactly 0 unless it is beyond the range of numbers, or has no coefficient. */
function zeroGradient(rows: readonly Row[]): string | null {
  const last = rows.findLastIndex(({ grad_norm: norm }) => norm > 0)
  if (last === rows.length - 1) return null
  return `the gradient is exactly 0 from step ${rows[last + 1].step} to the end: nothing was learned there`
}

/** Twice the loss of the first step is no noise of batches; 0.5 more, because a loss near 0 may well double. */
function growth(rows: readonly Row[]): string | null {
  const [first, ...later] = rows.map(({ loss, weight }) => loss / weight)
  if (later.length === 0) return null
  const { mean } = estimate(later.slice(-Math.ceil(later.length / 4)))
  if (mean <= 2 * first + 0.5) return null
  return `the loss diverged: ${first.toPrecision(3)} in the first step, ${mean.toPrecision(3)} at the end`
}

/** Policy and reference agree before training, and -log sigmoid(0) is ln 2: a run that ends above it made the model worse. */
function preference(rows: readonly Row[]): string | null {
  const half = rows.slice(Math.floor(rows.length / 2)).map((each) => each['loss/base'] / each.weight)
  if (half.length < 4) return null
  const { mean, error } = estimate(half)
  if (mean < 1.05 * Math.LN2 || mean - 2 * error < Math.LN2) return null
  const [shown, spread] = [mean.toFixed(3), error.toFixed(3)]
  return `the preference loss diverged: ${shown} ± ${spread} in the second half of the steps, above ln 2 = 0.693 of an untrained model`
}

/** A mean and its standard error. */
function estimate(values: readonly number[]): { mean: number; error: number } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return { mean, error: Math.sqrt(squares / Math.max(1, values.length - 1) / values.length) }
}
