/** Whether a second round of answers is better, and how certain that is. */
import { countPaired, mcnemarExact, pairedDifference, wilson } from 'fire-train/statistics'

export function compare(before: boolean[], after: boolean[]): string {
  const { value, low, high } = wilson(after.filter(Boolean).length, after.length)
  const counts = countPaired(before, after)
  const change = pairedDifference(counts)
  const percent = (share: number): string => (100 * share).toFixed(1)
  return (
    `${percent(value)} % right (95 % interval ${percent(low)} to ${percent(high)}), ` +
    `change ${percent(change.value)} (${percent(change.low)} to ${percent(change.high)}), p = ${mcnemarExact(counts).toFixed(3)}`
  )
}
