/** Means over the seeds of an arm. */
import {
  type ClusteredItem,
  countClusters,
  fewestClusters,
  type Interval,
  meanOfItems,
  seedBootstrap,
} from '../statistics/index.js'

/** A mean over all seeds; the interval is null where images are too few for one. */
export interface SeedMean {
  value: number
  interval: Interval | null
}

/** NaN where a value is missing, and for no values. */
export const meanOf = <T>(items: readonly T[], of: (item: T) => number | null): number =>
  items.reduce((sum, item) => sum + (of(item) ?? Number.NaN), 0) / items.length

/** @param seeds items of each seed, none empty. */
export function seedMean(seeds: readonly (readonly ClusteredItem[])[], { draws }: { draws: number }): SeedMean {
  const value = meanOf(seeds, meanOfItems)
  if (seeds.some((items) => countClusters(items) < fewestClusters)) return { value, interval: null }
  const { low, high } = seedBootstrap(seeds, { draws })
  return { value, interval: { low, high } }
}
