/** How the pairs of a step are cut into those that are computed at once. */
import type { Example } from './collate.js'
import { firstImage, grouped } from './order.js'

/**
 * As few parts of at most `size` pairs as there can be. Pairs of one image stay together where they fit, because their image rows are
 * computed once; parts have about as many rows, because the largest decides the memory.
 */
export function microBatches(batch: Example[], size: number): Example[][] {
  if (batch.length <= size) return [batch]
  const parts = Array.from({ length: Math.ceil(batch.length / size) }, () => ({ pairs: [] as Example[], rows: 0 }))
  const room = ({ pairs }: { pairs: Example[] }): number => size - pairs.length
  for (const group of largestFirst(grouped(batch, firstImage))) {
    for (let left = group; left.length > 0; ) {
      const fewestRows = [...parts].sort((a, b) => a.rows - b.rows)
      const mostRoom = [...fewestRows].sort((a, b) => room(b) - room(a))
      const part = fewestRows.find((each) => room(each) >= left.length) ?? mostRoom[0]
      const taken = left.slice(0, room(part))
      left = left.slice(taken.length)
      part.pairs.push(...taken)
      part.rows += estimateRows(taken)
    }
  }
  return parts.map(({ pairs }) => pairs)
}

/** Pairs that are only evaluated, in the order in which they are computed where one process computes all. */
export const evaluationOrder = (pairs: readonly Example[], size: number): Example[] =>
  evaluationBatches(pairs, size).flat()

/** Pairs that are only evaluated: any number, in parts of at most `size`, pairs of one image one after the other. */
export function evaluationBatches(pairs: readonly Example[], size: number): Example[][] {
  const inOrder = grouped(pairs, firstImage).flat()
  return Array.from({ length: Math.ceil(inOrder.length / size) }, (_, part) =>
    inOrder.slice(part * size, (part + 1) * size),
  )
}

function largestFirst(groups: Example[][]): Example[][] {
  return groups
    .map((pairs) => ({ pairs, rows: estimateRows(pairs) }))
    .sort((a, b) => b.rows - a.rows)
    .map(({ pairs }) => pairs)
}

/**
 * About so many rows does the decoder compute for these pairs: an image, or a twin, once for all that show it in the same place;
 * question and answers for every pair and side. It is rarely fewer than there are: the engine also shares equal words and leaves out what
 * follows the last scored token, but shares no beginning of less than 16 tokens. `Engine.plan` knows the number.
 */
export function estimateRows(pairs: readonly Example[]): number {
  const shown = new Set<string>()
  let rows = 0
  for (const { input, images } of pairs) {
    const { prompt, chosen, rejected, corruptedImages } = input
    const placeholders = images.slice(0, input.images.length).map(({ tokens }) => tokens)
    const text = prompt.length - placeholders.reduce((sum, tokens) => sum + tokens, 0) + chosen.length + rejected.length
    for (const side of corruptedImages ? [input.images, corruptedImages] : [input.images]) {
      rows += text
      for (const [index, tokens] of placeholders.entries()) {
        const place = side.slice(0, index + 1).join()
        if (!shown.has(place)) rows += tokens
        shown.add(place)
      }
    }
  }
  return rows
}
