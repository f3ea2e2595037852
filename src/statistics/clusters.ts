/**
 * Means of items that are not independent: questions about one image are right or wrong together. A cluster is such an image.
 * Random draws are counter-based: they depend on the seed and nothing else.
 */
import { philox4x32 } from '../random/philox.js'
import { type Interval, Z } from './proportion.js'

/** A value of an item and the name of its cluster; for two systems the value is the difference of their scores. */
export interface ClusteredItem {
  cluster: string
  value: number
}

/** With fewer clusters an interval over them is not printed: it would be far too narrow. */
export const fewestClusters = 20

/** Name, sum and count of each cluster, in the order of their first items. */
export function clustersOf(items: readonly ClusteredItem[]): {
  names: string[]
  sums: Float64Array
  counts: Float64Array
} {
  const index = new Map<string, number>()
  for (const { cluster } of items) if (!index.has(cluster)) index.set(cluster, index.size)
  const [sums, counts] = [new Float64Array(index.size), new Float64Array(index.size)]
  for (const { cluster, value } of items) {
    const i = index.get(cluster) as number
    sums[i] += value
    counts[i]++
  }
  return { names: [...index.keys()], sums, counts }
}

/** How many clusters the items have. */
export const countClusters = (items: readonly ClusteredItem[]): number =>
  new Set(items.map(({ cluster }) => cluster)).size

/** Mean of their values, whatever their clusters; NaN for none. */
export const meanOfItems = (items: readonly { value: number }[]): number =>
  items.reduce((sum, { value }) => sum + value, 0) / items.length

/** Mean of clustered items, and how sure it is. */
export interface ClusteredMean extends Interval {
  value: number
  clusters: number
  /** Square root of the cluster-robust variance. */
  standardError: number
  /** That variance over the one of independent items: 2 says that half of the items tell nothing new. */
  designEffect: number
}

/**
 * A mean with the normal interval of the cluster-robust variance, `G/(G-1) sum_g (sum_{i in g} (d_i - mean))² / n²` (Liang and
 * Zeger, Biometrika 73 (1986) 13, for an intercept alone). NaN bounds for fewer than two clusters.
 */
export function clusteredMean(items: readonly ClusteredItem[]): ClusteredMean {
  const n = items.length
  const value = meanOfItems(items)
  const { sums, counts } = clustersOf(items)
  const clusters = sums.length
  const squares = sums.reduce((sum, each, g) => sum + (each - counts[g] * value) ** 2, 0)
  const standardError = Math.sqrt(((clusters / (clusters - 1)) * squares) / (n * n))
  const plain = items.reduce((sum, item) => sum + (item.value - value) ** 2, 0) / ((n - 1) * n)
  return {
    value,
    clusters,
    standardError,
    designEffect: standardError ** 2 / plain,
    low: value - Z * standardError,
    high: value + Z * standardError,
  }
}

/** Mean, standard deviation and percentile interval of the bootstrap's means. */
export interface Bootstrap extends Interval {
  mean: number
  standardDeviation: number
  draws: number
  seed: number
}

/**
 * Cluster bootstrap of a mean: as many clusters as there are, drawn with replacement, sum of values over number of items. The
 * interval is from the 2.5 % to the 97.5 % quantile (Hyndman and Fan's type 7). Efron and Tibshirani, An Introduction to the
 * Bootstrap, 1993, chapter 13.
 */
export function clusterBootstrap(items: readonly ClusteredItem[], { seed = 0, draws = 10_000 } = {}): Bootstrap {
  return summarize(bootstrapMeans(items, seed, draws), seed)
}

/** What the means of the resamples say. */
export function summarize(means: Float64Array, seed: number): Bootstrap {
  const draws = means.length
  const mean = means.reduce((sum, each) => sum + each, 0) / draws
  const variance = means.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (draws - 1)
  const sorted = means.sort()
  return {
    mean,
    standardDeviation: Math.sqrt(variance),
    low: quantile(sorted, 0.025),
    high: quantile(sorted, 0.975),
    draws,
    seed,
  }
}

/** A mean and its interval by cluster: none is given with fewer than 20 clusters. */
export interface MeanByCluster {
  count: number
  /** Null for no items. */
  value: number | null
  interval: Bootstrap | null
}

/** The mean of clustered items with the interval of `clusterBootstrap`, where there are clusters enough for one. */
export function meanByCluster(items: readonly ClusteredItem[], seed: number): MeanByCluster {
  const enough = countClusters(items) >= fewestClusters
  return {
    count: items.length,
    value: items.length > 0 ? meanOfItems(items) : null,
    interval: enough ? clusterBootstrap(items, { seed }) : null,
  }
}

/** The mean of each resample. */
export function bootstrapMeans(items: readonly ClusteredItem[], seed: number, draws: number): Float64Array {
  const { sums, counts } = clustersOf(items)
  const clusters = sums.length
  const means = new Float64Array(draws)
  for (let draw = 0; draw < draws; draw++) {
    let [total, n] = [0, 0]
    for (let g = 0; g < clusters; g += 4) {
      const words = philox4x32([draw, g / 4, 0, 0], keyOf(seed))
      for (let i = 0; i < 4 && g + i < clusters; i++) {
        const drawn = Math.floor((words[i] / 0x100000000) * clusters)
        total += sums[drawn]
        n += counts[drawn]
      }
    }
    means[draw] = total / n
  }
  return means
}

/** @param sorted ascending, not empty. */
export function quantile(sorted: ArrayLike<number>, level: number): number {
  const place = (sorted.length - 1) * level
  const below = Math.floor(place)
  const next = sorted[Math.min(below + 1, sorted.length - 1)]
  return sorted[below] + (place - below) * (next - sorted[below])
}

/** Up to so many clusters all sign patterns are counted. */
const mostEnumerated = 14

/**
 * Cluster sign-flip test that the mean of paired differences is 0: under the null each cluster's sum could as well have had the
 * other sign. The statistic is the absolute sum. All patterns are counted for up to 14 clusters; with more, p is
 * `(1 + hits) / (1 + draws)` over random patterns (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39).
 */
export function clusterSignFlip(items: readonly ClusteredItem[], { seed = 0, draws = 10_000 } = {}): number {
  // A cluster without a difference has no sign to flip.
  const sums = clustersOf(items).sums.filter((sum) => sum !== 0)
  // Sums of scores that are not whole numbers differ by rounding.
  const seen = Math.abs(sums.reduce((sum, each) => sum + each, 0)) * (1 - 1e-12)
  const exceeds = (isNegative: (g: number) => boolean): number =>
    Number(Math.abs(sums.reduce((sum, each, g) => sum + (isNegative(g) ? -each : each), 0)) >= seen)
  let hits = 0
  if (sums.length <= mostEnumerated) {
    const patterns = 2 ** sums.length
    for (let pattern = 0; pattern < patterns; pattern++) hits += exceeds((g) => ((pattern >> g) & 1) === 1)
    return hits / patterns
  }
  for (let draw = 0; draw < draws; draw++) {
    let words: readonly number[] = []
    hits += exceeds((g) => {
      if (g % 128 === 0) words = philox4x32([draw, g / 128, 1, 0], keyOf(seed))
      return ((words[(g % 128) >> 5] >>> (g % 32)) & 1) === 1
    })
  }
  return (1 + hits) / (1 + draws)
}

/** The two words of a seed that the generator takes. */
export const keyOf = (seed: number): [number, number] => [seed >>> 0, Math.floor(seed / 0x100000000) >>> 0]
