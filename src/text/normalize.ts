/** Where the characters of a normalised text came from, so that spans on the original keep their meaning. */
import { DataError } from '../errors.js'

/** Half-open range of UTF-16 code units. */
export type Range = readonly [number, number]

export interface Alignment {
  normalized: string
  /** The part of the original that a non-empty range of the normalised text came from, whole segments at a time. */
  toSource(range: Range): Range
}

/** A run of conjoining Hangul jamo, with the syllable it may complete, composes although jamo are not marks. */
const segment = /[\uAC00-\uD7A3]?[\u1100-\u11FF\uA960-\uA97C\uD7B0-\uD7FB]+\p{M}*|[^\p{M}]\p{M}*|\p{M}+/gsu

/**
 * Cuts a text where normalisation cannot reach across (before a character that is not a combining mark), normalises each
 * segment alone and keeps the correspondence. Checked: the segments together must give the normalised whole.
 */
export function alignNormalized(text: string, normalize: ((text: string) => string) | null): Alignment {
  const normalized = normalize ? normalize(text) : text
  if (normalized === text) return { normalized, toSource: (range) => range }
  const source: number[] = []
  const target: number[] = []
  let sourceEnd = 0
  let targetEnd = 0
  let rebuilt = ''
  for (const [piece] of text.matchAll(segment)) {
    source.push(sourceEnd)
    target.push(targetEnd)
    const image = normalize ? normalize(piece) : piece
    rebuilt += image
    sourceEnd += piece.length
    targetEnd += image.length
  }
  if (rebuilt !== normalized) {
    throw new DataError(
      `Normalisation changes ${JSON.stringify(text.slice(0, 80))} in a way that offsets cannot follow`,
      {
        hint: 'Store the text in Unicode NFC.',
      },
    )
  }
  const segmentAt = (position: number): number => upperBound(target, position) - 1
  return {
    normalized,
    toSource: ([start, end]) => [source[segmentAt(start)], source[segmentAt(end - 1) + 1] ?? text.length],
  }
}

/** How many entries of an ascending list are <= value. */
function upperBound(list: readonly number[], value: number): number {
  let low = 0
  let high = list.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (list[middle] <= value) low = middle + 1
    else high = middle
  }
  return low
}
