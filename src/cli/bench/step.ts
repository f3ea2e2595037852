import type { StepNumbers } from '../../bench/protocol.js'
import { stepBenchSettings } from '../../bench/settings.js'
import type { StepBenchResult } from '../../bench/step.js'
import type { Agreement, Limit } from '../../bench/summary.js'
import { formatDifference, formatTable } from '../format.js'
import { benchCommand, withRange } from './variants.js'

export const step = benchCommand({
  name: 'step',
  summary: 'A training step compared with the plain computation and with PyTorch or TRL: time, memory, agreement',
  settings: stepBenchSettings,
  measure: async (settings, hooks) => (await import('../../bench/step.js')).benchStep(settings, hooks),
  describe,
  passed: ({ agreement }) => agreement.agrees,
})

function describe(result: StepBenchResult): string {
  const { agrees, reference, steps } = result.agreement
  const compared = steps === 1 ? 'loss and gradient norm of the first step' : `all numbers of ${steps} steps`
  const verdict = agrees
    ? `${compared} agree with ${reference}`
    : `MISS: ${compared} differ from ${reference} by more than the tolerance`
  const parts = [timings(result), ...(steps === 1 ? [] : [course(result)]), agreement(result.agreement)]
  return `${parts.join('\n\n')}\n${verdict}\n`
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

/** Step by step, of every variant whose numbers may differ: `cached` keeps what `packed` computes. */
function course({ series, agreement: { limits } }: StepBenchResult): string {
  const names = Object.keys(limits) as (keyof StepNumbers)[]
  const cells = series
    .filter(({ variant }) => variant !== 'ours-cached')
    .flatMap(({ variant, warmUp, samples }) =>
      [warmUp, ...samples].map((step) => [
        variant,
        step.step,
        ...names.map((name) => (step[name] ?? Number.NaN).toPrecision(8)),
      ]),
    )
  return formatTable(['variant', 'step', ...names], cells)
}

function agreement({ rows, limits }: Agreement): string {
  const names = Object.keys(limits) as (keyof StepNumbers)[]
  const cells = rows.map((row) => [
    row.variant,
    row.loss.toFixed(7),
    row.gradNorm.toPrecision(7),
    ...names.map((name) => formatDifference(row.differences[name] as number)),
    row.agrees ? 'agrees' : 'MISS',
  ])
  const limitOf = (limit: Limit): string =>
    'absolute' in limit ? `abs <= ${limit.absolute.toExponential()}` : `rel <= ${limit.relative.toExponential()}`
  const headers = names.map((name) => `${name}: ${limitOf(limits[name] as Limit)}`)
  return formatTable(['variant', 'first loss', 'grad norm', ...headers, 'result'], cells)
}
