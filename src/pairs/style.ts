/**
 * How the two sides of the pairs differ in style. A policy can lower its loss by learning the gap instead of the facts, so
 * whatever tells chosen from rejected without reading the image belongs into the report.
 */
import type { Pair } from '../data/records.js'
import { wordsOf } from './words.js'

export interface SideStyle {
  meanWords: number
  medianWords: number
  meanCharacters: number
}

/** What tells chosen from rejected without the image. */
export interface StyleGap {
  pairs: number
  chosen: SideStyle
  rejected: SideStyle
  /** Share of pairs whose chosen side has more words, ties counted half: 0.5 = length tells nothing. */
  longerIsChosen: number
  /** Jensen-Shannon divergence between the sides' words and word pairs, in bits: 0 = alike, 1 = nothing in common. */
  unigramDivergence: number
  bigramDivergence: number
  /** Words that stand on one side far more often, with their counts: what a policy could learn by heart. */
  tellingWords: { word: string; chosen: number; rejected: number }[]
}

const TELLING = 10

/** Null for no pairs: there is nothing to compare. */
export function styleGap(pairs: readonly Pair[]): StyleGap | null {
  if (pairs.length === 0) return null
  const chosen = pairs.map((pair) => wordsOf(pair.chosen))
  const rejected = pairs.map((pair) => wordsOf(pair.rejected))
  const longer = chosen.map((words, index) => {
    const difference = words.length - rejected[index].length
    return difference > 0 ? 1 : difference === 0 ? 0.5 : 0
  })
  return {
    pairs: pairs.length,
    chosen: sideStyle(
      chosen,
      pairs.map((pair) => pair.chosen),
    ),
    rejected: sideStyle(
      rejected,
      pairs.map((pair) => pair.rejected),
    ),
    longerIsChosen: round(mean(longer)),
    unigramDivergence: divergence(count(chosen, 1), count(rejected, 1)),
    bigramDivergence: divergence(count(chosen, 2), count(rejected, 2)),
    tellingWords: tellingWords(count(chosen, 1), count(rejected, 1)),
  }
}

function sideStyle(words: readonly string[][], texts: readonly string[]): SideStyle {
  const lengths = words.map((list) => list.length).sort((a, b) => a - b)
  return {
    meanWords: round(mean(lengths)),
    medianWords: (lengths[(lengths.length - 1) >> 1] + lengths[lengths.length >> 1]) / 2,
    meanCharacters: round(mean(texts.map((text) => text.length))),
  }
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
/** Enough digits to compare, few enough to read. */
const round = (value: number) => Number(value.toFixed(4))

function count(texts: readonly string[][], length: number): Map<string, number> {
  const counts = new Map<string, number>()
  for (const words of texts) {
    for (let i = 0; i + length <= words.length; i++) {
      const gram = words.slice(i, i + length).join(' ')
      counts.set(gram, (counts.get(gram) ?? 0) + 1)
    }
  }
  return counts
}

function divergence(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): number {
  const total = (counts: ReadonlyMap<string, number>) => [...counts.values()].reduce((sum, value) => sum + value, 0)
  const [sumA, sumB] = [total(a), total(b)]
  if (sumA === 0 || sumB === 0) return sumA === sumB ? 0 : 1
  let bits = 0
  for (const gram of new Set([...a.keys(), ...b.keys()])) {
    const p = (a.get(gram) ?? 0) / sumA
    const q = (b.get(gram) ?? 0) / sumB
    const middle = (p + q) / 2
    if (p > 0) bits += (p / 2) * Math.log2(p / middle)
    if (q > 0) bits += (q / 2) * Math.log2(q / middle)
  }
  return round(bits)
}

/** By how far the counts are apart, measured in the spread that chance would give them. */
function tellingWords(chosen: ReadonlyMap<string, number>, rejected: ReadonlyMap<string, number>) {
  return [...new Set([...chosen.keys(), ...rejected.keys()])]
    .map((word) => ({ word, chosen: chosen.get(word) ?? 0, rejected: rejected.get(word) ?? 0 }))
    .map((entry) => ({ entry, z: Math.abs(entry.chosen - entry.rejected) / Math.sqrt(entry.chosen + entry.rejected) }))
    .filter(({ z }) => z > 2)
    .sort((a, b) => b.z - a.z || (a.entry.word < b.entry.word ? -1 : 1))
    .slice(0, TELLING)
    .map(({ entry }) => entry)
}
