import { stepBenchSettings } from '../../bench/settings.js'
import type { StepBenchResult } from '../../bench/step.js'
import type { Agreement } from '../../bench/summary.js'
import { formatDifference, formatTable } from '../format.js'
import { benchCommand, withRange } from './variants.js'

export const step = benchCommand({
  name: 'step',
  summary: 'A training step compared with the plain computation and with PyTorch: time, memory, agreement',
  settings: stepBenchSettings,
  measure: async (settings, hooks) => (await import('../../bench/step.js')).benchStep(settings, hooks),
  describe,
  passed: ({ agreement }) => agreement.agrees,
})

function describe(result: StepBenchResult): string {
  const { agrees, reference } = result.agreement
  const verdict = agrees
    ? `loss and gradient norm of the first step agree with ${reference}`
    : `MISS: loss or gradient norm of the first step differ from ${reference} by more than the tolerance`
  return `${timings(result)}\n\n${agreement(result.agreement)}\n${verdict}\n`
}

/** Speed and memory against the first baseline that ran. */
function timings({ variants, ratios }: StepBenchResult): string {
  const [baseline, rows] = Object.entries(ratios)[0]
  const cells = variants.map(({ variant, seconds, tokens, peakBytes }, index) => [
    variant,
    withRange(seconds, (value) => value.toPrecision(3)),
    withRange(rows[index].speed, (value) => value.toFixed(2)),
    tokens,
    Math.round(peakBytes / 2 ** 20),
    Number(rows[index].memory.toFixed(2)),
  ])
  const headers = ['variant', 'seconds (min-max)', `speed-up over ${baseline}`, 'tokens', 'peak MiB', 'peak ratio']
  return formatTable(headers, cells)
}

function agreement({ rows, tolerance }: Agreement): string {
  const cells = rows.map((row) => [
    row.variant,
    row.loss.toFixed(7),
    row.gradNorm.toPrecision(7),
    formatDifference(row.lossDifference),
    formatDifference(row.gradNormDifference),
    row.agrees ? 'agrees' : 'MISS',
  ])
  const limits = [`abs diff <= ${tolerance.loss}`, `rel diff <= ${tolerance.gradNorm}`]
  return formatTable(['variant', 'first loss', 'grad norm', ...limits, 'result'], cells)
}
