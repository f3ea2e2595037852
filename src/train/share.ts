/** Which rank computes which pairs of a step. Every rank cuts every step in the same way, so nobody has to tell another. */
import type { Ranks } from '../ranks/ranks.js'
import type { Example } from './collate.js'
import type { Computed } from './metrics.js'
import { estimateRows } from './micro-batches.js'
import { firstImage, grouped } from './order.js'

/** By so much may a share have more rows than the mean for the sake of pairs that show one image. */
const slack = 1.1

/**
 * The share of each rank, by rows: a step is as long as its largest share takes. Pairs of one image go to one rank as long as no share
 * has more than a tenth more rows than the mean; no share has more than that, or the mean of the rows that pairs take alone and one
 * pair. With fewer pairs than ranks some have none. Shares keep the order of the pairs.
 */
export function shares(pairs: readonly Example[], ranks: number): Example[][] {
  if (ranks === 1) return [[...pairs]]
  const limit = (slack * estimateRows(pairs)) / ranks
  const parts = Array.from({ length: ranks }, () => ({ pairs: [] as Example[], rows: 0 }))
  const groups = grouped(pairs, firstImage).map((group) => ({ group, rows: estimateRows(group) }))
  for (const { group } of groups.sort((a, b) => b.rows - a.rows)) {
    for (let left = group; left.length > 0; ) {
      const part = parts.reduce((least, each) => (each.rows < least.rows ? each : least))
      const taken = left.slice(0, fitting(left, limit - part.rows))
      left = left.slice(taken.length)
      part.pairs.push(...taken)
      part.rows += estimateRows(taken)
    }
  }
  return parts.map((part) => {
    const own = new Set(part.pairs)
    return pairs.filter((pair) => own.has(pair))
  })
}

/** How many of these pairs take at most so many rows together; one at least. */
function fitting(pairs: readonly Example[], rows: number): number {
  let [fit, tooMany] = [1, pairs.length + 1]
  while (tooMany - fit > 1) {
    const middle = Math.floor((fit + tooMany) / 2)
    if (estimateRows(pairs.slice(0, middle)) <= rows) fit = middle
    else tooMany = middle
  }
  return fit
}

/**
 * What the ranks computed of their shares, in the order of the pairs.
 * @param split see `shares`. @param own of this rank's share, in its order; `null`: given up. @returns `null` when any rank gave up.
 */
export async function gatherPairs(
  ranks: Ranks,
  what: string,
  pairs: readonly Example[],
  split: readonly Example[][],
  own: Computed | null,
): Promise<Computed | null> {
  const all = await ranks.gather(what, own)
  if (all.some((computed) => computed === null)) return null
  const said = all as Computed[]
  const place = new Map(pairs.map((pair, index) => [pair, index]))
  const whole: Computed = { pairs: new Array(pairs.length), tokens: 0 }
  for (const [rank, { pairs: stats, tokens }] of said.entries()) {
    whole.tokens += tokens
    for (const [index, pair] of split[rank].entries()) whole.pairs[place.get(pair) as number] = stats[index]
  }
  return whole
}
