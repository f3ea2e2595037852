/** Means of a share over the seeds, with the interval of the tables. */

import { type Html, html } from '../../page/html.js'
import { intervalOfShares, percent } from '../../page/numbers.js'
import { type ClusteredItem, countClusters, fewestClusters, seedBootstrap } from '../../statistics/index.js'
import type { SeedMean } from '../results.js'

/** NaN where a value is missing, and for no values. */
export const meanOf = <T>(items: readonly T[], of: (item: T) => number | null): number =>
  items.reduce((sum, item) => sum + (of(item) ?? Number.NaN), 0) / items.length

/** @param seeds items of each seed, none empty. */
export function seedMean(seeds: readonly (readonly ClusteredItem[])[], { draws }: { draws: number }): SeedMean {
  const value = meanOf(seeds, (items) => meanOf(items, (item) => item.value))
  if (seeds.some((items) => countClusters(items) < fewestClusters)) return { value, interval: null }
  const { low, high } = seedBootstrap(seeds, { draws })
  return { value, interval: { low, high } }
}

/** In percent, the interval below; a dash where a seed is missing. */
export const showMean = (mean: SeedMean | null): Html =>
  mean === null
    ? html`–`
    : html`${percent(mean.value)} ${mean.interval && html`<small>${intervalOfShares(mean.interval)}</small>`}`

/** Three cells of a CSV file. */
export const cellsOfMean = (name: string, mean: SeedMean | null): Record<string, number | null> => ({
  [name]: mean?.value ?? null,
  [`${name}Low`]: mean?.interval?.low ?? null,
  [`${name}High`]: mean?.interval?.high ?? null,
})
