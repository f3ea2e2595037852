/** Means over runs with different seeds: a seed is a sample of its own, and its questions are not more questions of another one. */
import { philox4x32 } from '../random/philox.js'
import {
  type Bootstrap,
  type ClusteredItem,
  clusteredMean,
  clusterSignFlip,
  clustersOf,
  keyOf,
  meanOfItems,
  summarize,
} from './clusters.js'
import { meanTest, studentP } from './student.js'

/**
 * Two-stage bootstrap of the mean over seeds of each seed's mean: seeds are drawn with replacement, then clusters within every
 * drawn seed (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). Where all seeds have the same
 * clusters, as with one fixed test set, the clusters of a draw are the same for all of them. With one seed only
 * clusters are drawn. Of few seeds the spread between them is estimated badly, and the interval is too narrow if it is large.
 * @param seeds items of each seed, none empty.
 */
export function seedBootstrap(
  seeds: readonly (readonly ClusteredItem[])[],
  { seed = 0, draws = 10_000 } = {},
): Bootstrap {
  const groups = seeds.map(clustersOf)
  const names = groups.map((each) => [...each.names].sort().join('\n'))
  const isShared = names.every((each) => each === names[0])
  const order = isShared ? groups[0].names : undefined
  const sets = order ? groups.map((group) => inOrder(group, order)) : groups
  const means = new Float64Array(draws)
  const key = keyOf(seed)
  for (let draw = 0; draw < draws; draw++) {
    let sum = 0
    for (let place = 0; place < sets.length; place++) {
      const which = sets.length === 1 ? 0 : drawn(philox4x32([draw, place, 2, 0], key)[0], sets.length)
      sum += resampledMean(sets[which], draw, isShared ? 0 : place, key)
    }
    means[draw] = sum / sets.length
  }
  return summarize(means, seed)
}

/**
 * Two-sided p that the mean over seeds of each seed's mean is `against`. It knows that seeds differ and that images do: the larger
 * one of two p. One is of the t test over the seeds' means, which is all there is to say where every seed has images of its own; on a
 * fixed test set all seeds share the luck of its images, and it finds far too much. The other is of a t whose variance is the sum of
 * both levels', A of the seeds' means over their number and B by cluster, with `(A + B)² / (A²/(S-1) + B²/(G-1))` degrees of
 * freedom (Satterthwaite, Biometrics Bulletin 2 (1946) 110); alone it finds too much where the seeds are alike by chance.
 * Seeds that all came to the same are one seed, and with one seed this is the sign-flip test by cluster, for `against` 0.
 * @param seeds items of each seed, none empty. @returns null for one seed against another number than 0.
 */
export function seedTest(seeds: readonly (readonly ClusteredItem[])[], against = 0): number | null {
  const means = seeds.map(meanOfItems)
  if (means.every((each) => each === means[0])) return against === 0 ? clusterSignFlip(seeds[0]) : null
  const { value, standardError, df, p } = meanTest(means.map((each) => each - against))
  const total = seeds.reduce((sum, { length }) => sum + length, 0)
  const centred = seeds.flatMap((items, s) => {
    const weight = total / (seeds.length * items.length)
    return items.map((item) => ({ cluster: item.cluster, value: (item.value - means[s]) * weight }))
  })
  const byImage = clusteredMean(centred)
  const [a, b] = [standardError ** 2, byImage.standardError ** 2]
  const both = studentP(value / Math.sqrt(a + b), (a + b) ** 2 / (a ** 2 / df + b ** 2 / (byImage.clusters - 1)))
  return Math.max(p, both)
}

type Clusters = ReturnType<typeof clustersOf>

function inOrder({ names, sums, counts }: Clusters, order: readonly string[]): Clusters {
  const at = new Map(names.map((name, i) => [name, i]))
  const places = order.map((name) => at.get(name) as number)
  return {
    names: [...order],
    sums: Float64Array.from(places, (i) => sums[i]),
    counts: Float64Array.from(places, (i) => counts[i]),
  }
}

function resampledMean({ sums, counts }: Clusters, draw: number, place: number, key: [number, number]): number {
  let [total, n] = [0, 0]
  for (let g = 0; g < sums.length; g += 4) {
    const words = philox4x32([draw, g / 4, 3, place], key)
    for (let i = 0; i < 4 && g + i < sums.length; i++) {
      const which = drawn(words[i], sums.length)
      total += sums[which]
      n += counts[which]
    }
  }
  return total / n
}

const drawn = (word: number, count: number): number => Math.floor((word / 0x100000000) * count)
