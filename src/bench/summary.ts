/** From raw samples to medians, ratios and the verdict on agreement. Pure arithmetic. */
import type { DType } from '../engine/engine.js'
import type { Measured, ReadyMessage, StepMessage } from './protocol.js'

/** What one variant's process said. The first step warms up: it is held against the others, but not timed. */
export interface Series<T extends Measured = StepMessage> {
  variant: string
  ready: ReadyMessage
  warmUp: T
  samples: T[]
}

export interface Spread {
  min: number
  median: number
  max: number
}

export interface VariantSummary {
  variant: string
  seconds: Spread
  /** Of a round; see its message. */
  tokens: number
  peakBytes: number
}

export interface Ratio {
  variant: string
  /** Seconds of the baseline over seconds of the variant, round by round: above 1 is faster. */
  speed: Spread
  /** Peak bytes of the variant over those of the baseline: below 1 is less. */
  memory: number
}

export interface AgreementRow {
  variant: string
  loss: number
  gradNorm: number
  /** Absolute. */
  lossDifference: number
  /** Relative. */
  gradNormDifference: number
  agrees: boolean
}

export interface Agreement {
  reference: string
  tolerance: { loss: number; gradNorm: number }
  rows: AgreementRow[]
  agrees: boolean
}

/** Whom the others are held against, by preference. */
export const baselines = ['peer-plain', 'peer-lean', 'ours-plain'] as const

const tolerances: Record<DType, Agreement['tolerance']> = {
  f32: { loss: 1e-5, gradNorm: 1e-3 },
  bf16: { loss: 2e-2, gradNorm: 5e-2 },
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  const median = (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2
  return { min: sorted[0], median, max: sorted[sorted.length - 1] }
}

export function summarize({ variant, warmUp, samples }: Series<Measured>): VariantSummary {
  const all = [warmUp, ...samples]
  return {
    variant,
    seconds: spread(samples.map(({ seconds }) => seconds)),
    tokens: warmUp.tokens,
    peakBytes: Math.max(...all.map(({ peak_rss }) => peak_rss)),
  }
}

/** Every variant against every baseline that ran, the preferred baseline first. */
export function ratios(
  series: readonly Series<Measured>[],
  preferred: readonly string[] = baselines,
): Record<string, Ratio[]> {
  const found = preferred.flatMap((name) => series.find(({ variant }) => variant === name) ?? [])
  return Object.fromEntries(found.map((baseline) => [baseline.variant, series.map((one) => ratio(one, baseline))]))
}

function ratio(one: Series<Measured>, baseline: Series<Measured>): Ratio {
  return {
    variant: one.variant,
    speed: spread(one.samples.map(({ seconds }, round) => baseline.samples[round].seconds / seconds)),
    memory: summarize(one).peakBytes / summarize(baseline).peakBytes,
  }
}

/** Loss and gradient norm of the first step, which every variant takes from the same adapter. */
export function compare(series: readonly Series[], dtype: DType): Agreement {
  const reference = baselines.flatMap((name) => series.find(({ variant }) => variant === name) ?? [])[0] ?? series[0]
  const tolerance = tolerances[dtype]
  const rows = series.map(({ variant, warmUp: { loss, grad_norm: gradNorm } }) => {
    const lossDifference = Math.abs(loss - reference.warmUp.loss)
    const gradNormDifference = Math.abs(gradNorm / reference.warmUp.grad_norm - 1)
    // Not-a-number compares as false, and so disagrees.
    const agrees = lossDifference <= tolerance.loss && gradNormDifference <= tolerance.gradNorm
    return { variant, loss, gradNorm, lossDifference, gradNormDifference, agrees }
  })
  return { reference: reference.variant, tolerance, rows, agrees: rows.every((row) => row.agrees) }
}
