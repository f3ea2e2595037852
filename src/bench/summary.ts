/** From raw samples to medians, ratios and the verdict on agreement. Pure arithmetic. */
import type { Measured, ReadyMessage, StepMessage, StepNumbers } from './protocol.js'

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

/** How far a number may be from the baseline's. */
export type Limit = { absolute: number } | { relative: number }

/** Of the numbers that are compared. */
export type Limits = Partial<Record<keyof StepNumbers, Limit>>

export interface AgreementRow {
  variant: string
  /** Of the first step. */
  loss: number
  gradNorm: number
  /** The largest of the steps that are compared, each as its limit says. */
  differences: Partial<Record<keyof StepNumbers, number>>
  agrees: boolean
}

export interface Agreement {
  reference: string
  /** How many steps are compared. */
  steps: number
  limits: Limits
  rows: AgreementRow[]
  agrees: boolean
}

/** Whom the others are held against, by preference. */
export const baselines = ['trl', 'peer-plain', 'peer-lean', 'ours-plain'] as const

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
export function ratios(series: readonly Series<Measured>[], preferred: readonly string[]): Record<string, Ratio[]> {
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

/** Every step, or only the first, with that of the baseline: all variants start from the same adapter. */
export function compare(series: readonly Series[], limits: Limits, everyStep: boolean): Agreement {
  const reference = baselines.flatMap((name) => series.find(({ variant }) => variant === name) ?? [])[0] ?? series[0]
  const compared = ({ warmUp, samples }: Series): StepNumbers[] => (everyStep ? [warmUp, ...samples] : [warmUp])
  const expected = compared(reference)
  const rows = series.map((one) => {
    const found = Object.entries(limits).map(([name, limit]) => {
      const key = name as keyof StepNumbers
      const each = compared(one).map((step, at) => difference(step[key], expected[at][key], limit))
      return { key, largest: Math.max(...each), most: Object.values(limit)[0] as number }
    })
    return {
      variant: one.variant,
      loss: one.warmUp.loss,
      gradNorm: one.warmUp.grad_norm,
      differences: Object.fromEntries(found.map(({ key, largest }) => [key, largest])),
      // Not-a-number compares as false, and so disagrees.
      agrees: found.every(({ largest, most }) => largest <= most),
    }
  })
  const agrees = rows.every((row) => row.agrees)
  return { reference: reference.variant, steps: expected.length, limits, rows, agrees }
}

/** Not a number where one of the two is missing. */
export function difference(value = Number.NaN, expected = Number.NaN, limit: Limit): number {
  return 'absolute' in limit ? Math.abs(value - expected) : Math.abs(value / expected - 1)
}
