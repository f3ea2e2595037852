/**
 * Minimal edits: from proposals on one text to a second text and the spans of what differs on both.
 *
 * The preference losses score phrase tokens only, so the spans decide what is learned. Everything outside them is equal
 * on both sides by construction: the second text is made here by replacement, never taken from elsewhere. Three rules
 * keep the spans clean for any tokenizer: they hold whole words, they are never empty, and they share no words at their
 * ends.
 */
import { FireError } from '../errors.js'

/** What a rule or a language model proposes: `text.slice(start, end)` becomes `replacement`. UTF-16 offsets. */
export interface EditProposal {
  start: number
  end: number
  replacement: string
  category: string
}

/** The span of one difference in the original and in the edited text. */
export interface SpanPair {
  original: [number, number]
  edited: [number, number]
  category: string
}

/** The edited text, and every difference as a span in both texts. */
export interface AppliedEdits {
  text: string
  edits: SpanPair[]
}

export type EditProblem = 'out_of_range' | 'overlap' | 'unchanged' | 'empty_side'

/** A set of proposals that cannot become a pair; `problem` is what the statistics count. */
export class EditError extends FireError {
  static override readonly code = 'ERR_FIRE_EDIT'

  constructor(
    readonly problem: EditProblem,
    message: string,
  ) {
    super(message, { detail: { problem } })
  }
}

const WORD = /[\p{L}\p{N}\p{M}\p{Cs}_]|\u200d/u
const DIGIT = /\p{Nd}/u
const SPACE = /^\s$/u
const HAS_WORD = /[\p{L}\p{N}]/u

/** True when cutting `left | right` would split a word, a decimal number or a surrogate pair. */
function splitsWord(left: string, right: string): boolean {
  const before = lastCharacter(left)
  const after = firstCharacter(right)
  if (before === '' || after === '') return false
  if (WORD.test(before) && WORD.test(after)) return true
  if (isDecimalMark(before) && DIGIT.test(after)) return DIGIT.test(lastCharacter(left.slice(0, -1)))
  if (DIGIT.test(before) && isDecimalMark(after)) return DIGIT.test(firstCharacter(right.slice(1)))
  return isHighSurrogate(before) && isLowSurrogate(after)
}

const isDecimalMark = (character: string) => character === '.' || character === ','
const isHighSurrogate = (character: string) => character >= '\ud800' && character <= '\udbff'
const isLowSurrogate = (character: string) => character >= '\udc00' && character <= '\udfff'

function firstCharacter(text: string): string {
  const code = text.codePointAt(0)
  return code === undefined ? '' : String.fromCodePoint(code)
}

function lastCharacter(text: string): string {
  const last = text.at(-1) ?? ''
  const pair = text.slice(-2)
  return isLowSurrogate(last) && pair.length === 2 && isHighSurrogate(pair) ? pair : last
}

/** Longest context that `splitsWord` looks at on either side of a cut: a surrogate pair or a digit and its mark. */
const CONTEXT = 4

/**
 * Applies proposals to `text` and returns the edited text with the spans of every difference on both sides.
 *
 * Words shared at the ends of a proposal are trimmed off, spans are widened to whole words, a side that would be empty
 * (a pure insertion or deletion) takes in the word that follows on both sides, and spans that meet by then are merged.
 *
 * @throws EditError `out_of_range`, `overlap`, `unchanged` (nothing differs) or `empty_side` (no word to lean on).
 */
export function applyEdits(text: string, proposals: readonly EditProposal[]): AppliedEdits {
  const ordered = [...proposals].sort((a, b) => a.start - b.start || a.end - b.end)
  checkRanges(text, ordered)
  const trimmed = ordered.map((proposal) => trimShared(text, proposal)).filter((proposal) => proposal !== null)
  if (trimmed.length === 0) throw new EditError('unchanged', 'The proposed edits leave the text as it is.')
  return assemble(text, settle(text, trimmed))
}

function checkRanges(text: string, ordered: readonly EditProposal[]): void {
  let previous: EditProposal | undefined
  for (const proposal of ordered) {
    const { start, end } = proposal
    const whole = Number.isInteger(start) && Number.isInteger(end)
    if (!whole || start < 0 || end < start || end > text.length) {
      throw new EditError('out_of_range', `Edit [${start}, ${end}) lies outside a text of ${text.length} characters.`)
    }
    if (previous && (start < previous.end || (start === previous.start && end === previous.end))) {
      throw new EditError('overlap', `Edits [${previous.start}, ${previous.end}) and [${start}, ${end}) overlap.`)
    }
    previous = proposal
  }
}

/** Drops what both sides share at the ends; `null` when nothing differs. Widening puts split words together again. */
function trimShared(text: string, proposal: EditProposal): EditProposal | null {
  const original = text.slice(proposal.start, proposal.end)
  const { replacement } = proposal
  if (original === replacement) return null
  const shortest = Math.min(original.length, replacement.length)
  let head = 0
  while (head < shortest && original[head] === replacement[head]) head++
  let tail = 0
  while (tail < shortest - head && original.at(-1 - tail) === replacement.at(-1 - tail)) tail++
  return {
    start: proposal.start + head,
    end: proposal.end - tail,
    replacement: replacement.slice(head, replacement.length - tail),
    category: proposal.category,
  }
}

/** Widens and merges until every span stands on its own: whole words, something on both sides, none touching. */
function settle(text: string, proposals: readonly EditProposal[]): EditProposal[] {
  let current = [...proposals]
  for (;;) {
    const next = mergeTouching(
      current.map((proposal, i) => {
        const room = roomAround(text, current[i - 1], current[i + 1])
        return fillEmptySide(text, widenToWords(text, proposal, room), room)
      }),
    )
    if (next.length === current.length && next.every((proposal, i) => sameSpan(proposal, current[i]))) return next
    current = next
  }
}

const sameSpan = (a: EditProposal, b: EditProposal | undefined) => a.start === b?.start && a.end === b.end

/** The stretch an edit may grow into, and whether a neighbour stands at its ends. */
interface Room {
  from: number
  to: number
  neighbourBefore: boolean
  neighbourAfter: boolean
}

function roomAround(text: string, previous: EditProposal | undefined, next: EditProposal | undefined): Room {
  return {
    from: previous?.end ?? 0,
    to: next?.start ?? text.length,
    neighbourBefore: previous !== undefined,
    neighbourAfter: next !== undefined,
  }
}

function widenToWords(text: string, proposal: EditProposal, room: Room): EditProposal {
  let { start, end, replacement } = proposal
  const before = () => text.slice(Math.max(0, start - CONTEXT), start)
  const after = () => text.slice(end, end + CONTEXT)
  const splitsLeft = () =>
    splitsWord(before(), text.slice(start, end) + after()) || splitsWord(before(), replacement + after())
  const splitsRight = () =>
    splitsWord(before() + text.slice(start, end), after()) || splitsWord(before() + replacement, after())
  while (start > room.from && splitsLeft()) {
    start--
    replacement = text.charAt(start) + replacement
  }
  while (end < room.to && splitsRight()) {
    replacement += text.charAt(end)
    end++
  }
  return { start, end, replacement, category: proposal.category }
}

/** A side of spaces or nothing holds no phrase token: take in the next word, else the one before, else any neighbour. */
function fillEmptySide(text: string, proposal: EditProposal, room: Room): EditProposal {
  const { start, end, replacement, category } = proposal
  if (text.slice(start, end).trim() !== '' && replacement.trim() !== '') return proposal
  const after = /^\s*\S+/u.exec(text.slice(end, room.to))?.[0]
  const before = /\S+\s*$/u.exec(text.slice(room.from, start))?.[0]
  const takeAfter = (taken: string) => ({ start, end: end + taken.length, replacement: replacement + taken, category })
  const takeBefore = (taken: string) => ({
    start: start - taken.length,
    end,
    replacement: taken + replacement,
    category,
  })
  if (after !== undefined && HAS_WORD.test(after)) return takeAfter(after.replace(/[^\p{L}\p{N}\p{M}]+$/u, ''))
  if (before !== undefined && HAS_WORD.test(before)) return takeBefore(before.replace(/^[^\p{L}\p{N}\p{M}]+/u, ''))
  if (after !== undefined) return takeAfter(after)
  if (before !== undefined) return takeBefore(before)
  if (room.neighbourAfter) return takeAfter(text.slice(end, room.to))
  if (room.neighbourBefore) return takeBefore(text.slice(room.from, start))
  throw new EditError('empty_side', 'An edit leaves one side without any word to compare.')
}

/** Joins spans that overlap or touch. */
function mergeTouching(proposals: readonly EditProposal[]): EditProposal[] {
  const merged: EditProposal[] = []
  for (const proposal of proposals) {
    const last = merged.at(-1)
    if (!last || proposal.start > last.end) {
      merged.push(proposal)
      continue
    }
    // Both may have widened over the same characters: keep each of them once.
    const shared = last.end - proposal.start
    merged[merged.length - 1] = {
      start: last.start,
      end: proposal.end,
      replacement: last.replacement + proposal.replacement.slice(shared),
      category: joinCategories(last.category, proposal.category),
    }
  }
  return merged
}

const joinCategories = (a: string, b: string) => [...new Set([...a.split('+'), ...b.split('+')])].join('+')

function assemble(text: string, proposals: readonly EditProposal[]): AppliedEdits {
  const edits: SpanPair[] = []
  let edited = ''
  let cursor = 0
  for (const { start, end, replacement, category } of proposals) {
    if (text.slice(start, end) === replacement) continue // Two proposals that undid each other.
    edited += text.slice(cursor, start)
    const [lead, trail] = sharedSpaces(text.slice(start, end), replacement)
    edits.push({
      original: [start + lead, end - trail],
      edited: [edited.length + lead, edited.length + replacement.length - trail],
      category,
    })
    edited += replacement
    cursor = end
  }
  if (edits.length === 0) throw new EditError('unchanged', 'The proposed edits leave the text as it is.')
  return { text: edited + text.slice(cursor), edits }
}

/** Spaces at both ends that the two sides have in common belong to neither phrase. */
function sharedSpaces(a: string, b: string): [number, number] {
  const shortest = Math.min(a.length, b.length)
  let lead = 0
  while (lead < shortest && a[lead] === b[lead] && SPACE.test(a.charAt(lead))) lead++
  let trail = 0
  while (trail < shortest - lead && a.at(-1 - trail) === b.at(-1 - trail) && SPACE.test(a.at(-1 - trail) ?? '')) trail++
  return [lead, trail]
}
