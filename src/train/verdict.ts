/** Whether a run that came to its end learned anything: read off its metrics, so that a resumed run is judged as a whole. */

import { z } from 'zod'
import { readJsonl } from '../data/jsonl.js'

const row = z.looseObject({ step: z.number(), loss: z.number(), grad_norm: z.number(), weight: z.number().default(1) })

type Row = z.output<typeof row>

/** What metrics.jsonl says against a run, in words; `null` when nothing does. */
export async function readVerdict(metrics: string): Promise<string | null> {
  const rows: Row[] = []
  for await (const { record } of readJsonl(metrics, row)) rows.push(record)
  return zeroGradient(rows) ?? divergence(rows)
}

/** No loss of this family has a gradient of exactly 0 unless it is out of the range of numbers, or weights nothing. */
function zeroGradient(rows: readonly Row[]): string | null {
  const counted = rows.filter(({ weight }) => weight > 0)
  const last = counted.findLastIndex(({ grad_norm: norm }) => norm > 0)
  if (last === counted.length - 1) return null
  return `the gradient is exactly 0 from step ${counted[last + 1].step} to the end: nothing was learned there`
}

/** A mean over a tenth of the steps is no longer the noise of one batch; +1, because a loss near 0 may well triple. */
function divergence(rows: readonly Row[]): string | null {
  const tenth = Math.ceil(rows.length / 10)
  const mean = (part: readonly Row[]): number => part.reduce((sum, { loss }) => sum + loss, 0) / part.length
  const [first, last] = [mean(rows.slice(0, tenth)), mean(rows.slice(-tenth))]
  if (!(last > 3 * first + 1)) return null
  return `the loss diverged: ${first.toPrecision(3)} in the first tenth of the steps, ${last.toPrecision(3)} in the last`
}
