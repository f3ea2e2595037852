/** What the evaluations of a run have shown so far: the best value, and whether to go on. Kept in every checkpoint. */
import { z } from 'zod'
import { NumericError } from '../errors.js'
import { isTree } from '../settings/source.js'
import { type EvaluationMetric, type EvaluationRow, evaluationMetrics, type LogRow } from './metrics.js'
import type { TrainConfig } from './settings.js'

const found = z.strictObject({
  step: z.number().int().positive(),
  value: z.number(),
  /** `eval_loss` of the same evaluation, which decides between equal values. */
  loss: z.number().optional(),
})

/** A value of a metric, and the optimizer step after which it was measured. */
export type Found = z.output<typeof found>

export const trackingSchema = z.strictObject({
  /** The last evaluation. */
  last: z.custom<EvaluationRow>((row) => isTree(row) && Number.isInteger(row.step)).nullable(),
  /** Of `checkpoint.best`. */
  best: found.nullable(),
  /** Of `earlyStopping.metric`, as far as it became better by more than `minDelta`. */
  stoppingBest: found.nullable(),
  /** Evaluations since then. */
  waited: z.number().int().nonnegative(),
})

export type Tracking = z.output<typeof trackingSchema>

export const nothingTracked: Tracking = { last: null, best: null, stoppingBest: null, waited: 0 }

/**
 * A metric that decides something has a value from the first evaluation on, or the run would go on for nothing.
 * @throws {NumericError} when it has none.
 */
export function requireValues(before: Tracking, row: EvaluationRow, { checkpoint, earlyStopping }: TrainConfig): void {
  if (before.last !== null) return
  for (const [key, metric] of [
    ['checkpoint.best', checkpoint.best],
    ['earlyStopping.metric', earlyStopping?.metric],
  ] as const) {
    if (!metric || row[metric] !== undefined) continue
    throw new NumericError(`Held-out pairs after step ${row.step}: ${metric} (${key}) has no finite value`, {
      detail: { step: row.step, metric },
      hint: 'Choose another metric, check the held-out pairs and the weights, lower optimizer.lr, or use dtype: f32.',
    })
  }
}

/** A value that is missing, because it was not finite, is never better. */
function isBetter(metric: EvaluationMetric, value: number | undefined, than: Found | null, minDelta: number): boolean {
  if (value === undefined) return false
  if (than === null) return true
  const gain = evaluationMetrics[metric] === 'greater' ? value - than.value : than.value - value
  return gain > minDelta
}

/** Equal values, which an accuracy over few pairs often has: the lower loss, then the later step. */
const winsTie = (metric: EvaluationMetric, row: EvaluationRow, than: Found | null): boolean =>
  than !== null && row[metric] === than.value && row.eval_loss <= (than.loss ?? Number.POSITIVE_INFINITY)

/** The state after one more evaluation. */
export function track(before: Tracking, row: EvaluationRow, { checkpoint, earlyStopping }: TrainConfig): Tracking {
  const { step } = row
  const bestOf = (metric: EvaluationMetric, than: Found | null): Found | null =>
    isBetter(metric, row[metric], than, 0) || winsTie(metric, row, than)
      ? { step, value: row[metric], loss: row.eval_loss }
      : than
  const best = checkpoint.best && bestOf(checkpoint.best, before.best)
  const gains =
    earlyStopping &&
    isBetter(earlyStopping.metric, row[earlyStopping.metric], before.stoppingBest, earlyStopping.minDelta)
  const stoppingBest = gains ? { step, value: row[earlyStopping.metric] } : before.stoppingBest
  return { last: row, best, stoppingBest, waited: stoppingBest?.step === step ? 0 : before.waited + 1 }
}

/** The best value of `checkpoint.best` among the rows of a run. */
export function bestOf(rows: readonly LogRow[], config: TrainConfig): Found | null {
  const evaluations = rows.filter((row): row is EvaluationRow => row.eval_loss !== undefined)
  return evaluations.reduce((tracking, row) => track(tracking, row, config), nothingTracked).best
}

/** Why a run ends here, in words; `null` when it goes on. */
export function reasonToStop({ stoppingBest, waited }: Tracking, { earlyStopping }: TrainConfig): string | null {
  if (!earlyStopping || waited < earlyStopping.patience) return null
  const { metric } = earlyStopping
  const best = stoppingBest
    ? `, whose best value is ${Number(stoppingBest.value.toPrecision(3))} of step ${stoppingBest.step}`
    : ''
  return `${waited} evaluations without a better ${metric}${best}`
}
