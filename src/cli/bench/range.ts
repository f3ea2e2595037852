import type { Spread } from '../../bench/summary.js'

/** "median (min-max)". */
export function withRange({ min, median, max }: Spread, format: (value: number) => string): string {
  return `${format(median)} (${format(min)}-${format(max)})`
}
