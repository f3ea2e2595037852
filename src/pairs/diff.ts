/**
 * What differs between two texts, word by word. Whoever proposes an edit may have rewritten a whole clause to change one
 * word; the phrases that the loss scores are found here, not believed.
 */
import type { Edit } from '../data/records.js'
import { applyEdits, type EditProposal } from './edits.js'
import { splitTokens, type Word } from './words.js'

/** Words `a[i, iEnd)` became `b[j, jEnd)`. */
interface Hunk {
  i: number
  iEnd: number
  j: number
  jEnd: number
}

/** A common word is worth more than any number of hunks, and among equals fewer hunks win. */
const COMMON_WORD = 1 << 16

/** Above this many cells of the table, texts are so long that one edit for all of it is the better answer. */
const MOST_CELLS = 4_000_000

const SENTENCE_MARK = /[.!?。！？]/u
const SPOKEN = /[\p{L}\p{N}]/u

/**
 * The edits that turn `from` into `to`: the longest common subsequence of words (compared in NFC, case counts), the
 * fewest hunks among equals, hunks with nothing but punctuation between them joined. Applying them gives `to` exactly,
 * spaces included; where only spaces differ in between, one edit covers everything.
 */
export function diffWords(from: string, to: string, category: string): EditProposal[] {
  if (from === to) return []
  const whole = [{ start: 0, end: from.length, replacement: to, category }]
  const a = splitTokens(from)
  const b = splitTokens(to)
  if (a.length === 0 || b.length === 0 || a.length * b.length > MOST_CELLS) return whole
  const edits = joinOverPunctuation(hunksOf(a, b), a).map((hunk) => ({
    ...replacementOf(hunk, a, b, from, to),
    category,
  }))
  return replace(from, edits) === to ? edits : whole
}

/**
 * The edits between two finished answers, under the rules of `applyEdits`. None for equal texts.
 * @throws EditError `empty_side` when one text has no words at all.
 */
export function diffEdits(chosen: string, rejected: string, category: string): Edit[] {
  if (chosen === rejected) return []
  const { text, edits } = applyEdits(chosen, diffWords(chosen, rejected, category))
  if (text !== rejected) throw new Error('The word diff does not lead from one text to the other. This is a bug.')
  return edits.map(({ original, edited }) => ({ chosen: original, rejected: edited, category }))
}

/** Each proposal cut down to the words that differ. */
export function refineProposals(text: string, proposals: readonly EditProposal[]): EditProposal[] {
  return proposals.flatMap(({ start, end, replacement, category }) =>
    diffWords(text.slice(start, end), replacement, category).map((edit) => ({
      ...edit,
      start: edit.start + start,
      end: edit.end + start,
    })),
  )
}

function replace(text: string, edits: readonly EditProposal[]): string {
  return [...edits]
    .reverse()
    .reduce((whole, { start, end, replacement }) => whole.slice(0, start) + replacement + whole.slice(end), text)
}

function hunksOf(a: readonly Word[], b: readonly Word[]): Hunk[] {
  const width = b.length + 1
  // Best value of what follows cell (i, j) when the words before it were common, and when a hunk is open.
  const common = new Float64Array((a.length + 1) * width)
  const open = new Float64Array((a.length + 1) * width)
  const key = (word: Word) => word.text.normalize('NFC')
  const left = a.map(key)
  const right = b.map(key)
  for (let i = a.length; i >= 0; i--) {
    for (let j = b.length; j >= 0; j--) {
      if (i === a.length && j === b.length) continue
      const cell = i * width + j
      const same = i < a.length && j < b.length && left[i] === right[j]
      const skip = Math.max(
        i < a.length ? open[cell + width] : Number.NEGATIVE_INFINITY,
        j < b.length ? open[cell + 1] : Number.NEGATIVE_INFINITY,
      )
      const match = same ? COMMON_WORD + common[cell + width + 1] : Number.NEGATIVE_INFINITY
      open[cell] = Math.max(match, skip)
      common[cell] = Math.max(match, skip - 1)
    }
  }
  const hunks: Hunk[] = []
  let hunk: Hunk | null = null
  let i = 0
  let j = 0
  while (i < a.length || j < b.length) {
    const cell: number = i * width + j
    const value: number = hunk ? open[cell] : common[cell]
    const same = i < a.length && j < b.length && left[i] === right[j]
    if (same && value === COMMON_WORD + common[cell + width + 1]) {
      hunk = null
      i++
      j++
      continue
    }
    if (!hunk) {
      hunk = { i, iEnd: i, j, jEnd: j }
      hunks.push(hunk)
    }
    if (i < a.length && (j === b.length || open[cell + width] >= open[cell + 1])) hunk.iEnd = ++i
    else hunk.jEnd = ++j
  }
  return hunks
}

function joinOverPunctuation(hunks: readonly Hunk[], a: readonly Word[]): Hunk[] {
  const joined: Hunk[] = []
  for (const hunk of hunks) {
    const last = joined.at(-1)
    const between = last && a.slice(last.iEnd, hunk.i).map((word) => word.text)
    const joins = between?.every((word) => !SPOKEN.test(word) && !SENTENCE_MARK.test(word))
    if (last && joins) joined[joined.length - 1] = { i: last.i, iEnd: hunk.iEnd, j: last.j, jEnd: hunk.jEnd }
    else joined.push(hunk)
  }
  return joined
}

/** A bare insertion or deletion takes the spaces after it along, at the end of a text those before it. */
function replacementOf(hunk: Hunk, a: readonly Word[], b: readonly Word[], from: string, to: string) {
  const bare = hunk.i === hunk.iEnd || hunk.j === hunk.jEnd
  if (bare && hunk.iEnd === a.length && hunk.i > 0 && hunk.j > 0) {
    const start = a[hunk.i - 1].end
    return { start, end: a[a.length - 1].end, replacement: to.slice(b[hunk.j - 1].end, b[b.length - 1].end) }
  }
  const stretch = (words: readonly Word[], first: number, end: number, text: string): [number, number] => {
    const start = words[first]?.start ?? text.length
    return [start, bare ? (words[end]?.start ?? text.length) : words[end - 1].end]
  }
  const [start, end] = stretch(a, hunk.i, hunk.iEnd, from)
  return { start, end, replacement: to.slice(...stretch(b, hunk.j, hunk.jEnd, to)) }
}
