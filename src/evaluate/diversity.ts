/** How different several answers to one question are. */

/** Of the answers to one question. Case and punctuation do not count. */
export interface Diversity {
  /** Distinct answers over answers. */
  uniqueShare: number
  /** Shannon entropy of the answers, in bits. */
  entropyBits: number
  /** Distinct words over words, and distinct pairs of words over pairs (Li et al., NAACL 2016); null where there are none. */
  distinct1: number | null
  distinct2: number | null
  /** Mean over all pairs of answers: edits between their words over the longer one's words. Null for one answer. */
  meanEditDistance: number | null
}

/** Of several answers to one question. @param answers at least one. */
export function diversityOf(answers: readonly string[]): Diversity {
  const words = answers.map(plainWords)
  const counts = new Map<string, number>()
  for (const each of words) counts.set(each.join(' '), (counts.get(each.join(' ')) ?? 0) + 1)
  const shares = [...counts.values()].map((count) => count / answers.length)
  const distances = words.flatMap((a, i) => words.slice(i + 1).map((b) => editShare(a, b)))
  return {
    uniqueShare: counts.size / answers.length,
    // A sum that starts at 0, so that one answer alone has no -0.
    entropyBits: shares.reduce((sum, share) => sum + (share === 1 ? 0 : -share * Math.log2(share)), 0),
    distinct1: distinctShare(words.flat()),
    distinct2: distinctShare(words.flatMap((each) => each.slice(1).map((word, i) => `${each[i]} ${word}`))),
    meanEditDistance: distances.length === 0 ? null : distances.reduce((sum, each) => sum + each, 0) / distances.length,
  }
}

const plainWords = (text: string): string[] => text.toLowerCase().match(/[\p{L}\p{N}\p{M}]+/gu) ?? []

const distinctShare = (items: readonly string[]): number | null =>
  items.length === 0 ? null : new Set(items).size / items.length

function editShare(a: readonly string[], b: readonly string[]): number {
  const longest = Math.max(a.length, b.length)
  if (longest === 0) return 0
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (const [i, word] of a.entries()) {
    const next = [i + 1]
    for (const [j, other] of b.entries()) {
      next.push(Math.min(row[j] + Number(word !== other), row[j + 1] + 1, next[j] + 1))
    }
    row = next
  }
  return row[b.length] / longest
}
