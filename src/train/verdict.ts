/** Whether a run that came to its end learned anything: read off its metrics, so that a resumed run is judged as a whole. */
import { z } from 'zod'
import { readJsonl } from '../data/jsonl.js'
import { type ObjectiveName, objectives } from '../engine/objectives.js'

/** Metrics leave out what is not finite. */
const measured = z.number().default(Number.POSITIVE_INFINITY)

const row = z.looseObject({
  step: z.number(),
  loss: measured,
  'loss/base': measured,
  grad_norm: measured,
  weight: z.number().default(1),
})

type Row = z.output<typeof row>

/**
 * What metrics.jsonl says against a run, in words; `null` when nothing does.
 * @param startsAtReference policy and reference were equal before the first step.
 */
export async function readVerdict(
  metrics: string,
  objective: ObjectiveName,
  startsAtReference = true,
): Promise<string | null> {
  const rows: Row[] = []
  for await (const { record } of readJsonl(metrics, row)) {
    const isStep = record.eval_loss === undefined
    if (isStep && record.weight > 0) rows.push(record)
  }
  const startsAtLn2 = startsAtReference && objectives[objective].startsAtLn2
  return zeroGradient(rows) ?? growth(rows) ?? (startsAtLn2 ? preference(rows) : null)
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
