/** Two answers to edits: from inline tags where the source marks its phrases, from a word diff where it does not. */
import { pairProblem } from '../data/pairs.js'
import type { Edit, Pair } from '../data/records.js'
import { diffEdits } from '../pairs/index.js'
import { LeftOut } from './draft.js'
import { type Notes, trimmed } from './fields.js'

const tag = /<\s{0,3}(\/?)\s{0,3}mask\s{0,3}>/gi

type Span = [start: number, end: number]

export interface Marked {
  text: string
  spans: Span[]
}

/** The text without its `<mask>` tags, and where the marked phrases lie in it. */
export function readTags(marked: string): Marked {
  let text = ''
  let from = 0
  let start: number | undefined
  const spans: Span[] = []
  const append = (piece: string): void => {
    // Published records put spaces on both sides of a tag; what remains of two is one.
    text += text === '' || /\s/.test(text.at(-1) ?? '') ? piece.replace(/^ +/, '') : piece
  }
  for (const match of marked.matchAll(tag)) {
    append(marked.slice(from, match.index))
    from = match.index + match[0].length
    const closing = match[1] === '/'
    if (closing !== (start !== undefined))
      throw new LeftOut('unbalanced_tags', `${match[0]} at ${match.index} has no partner`)
    if (start !== undefined) spans.push(withoutSpaces(text, start, text.length))
    start = closing ? undefined : text.length
  }
  if (start !== undefined) throw new LeftOut('unbalanced_tags', 'the last <mask> is not closed')
  if (from === 0) return { text: marked.trim(), spans }
  append(marked.slice(from))
  return { text: text.trimEnd(), spans }
}

function withoutSpaces(text: string, start: number, end: number): Span {
  const inner = text.slice(start, end)
  const left = inner.length - inner.trimStart().length
  return inner.trim() === '' ? [start, start] : [start + left, end - (inner.length - inner.trimEnd().length)]
}

/** Texts and edits of a pair. */
export function pairTexts(chosen: string, rejected: string, note: Notes): Pick<Pair, 'chosen' | 'rejected' | 'edits'> {
  const left = readTags(trimmed(chosen, note))
  const right = readTags(trimmed(rejected, note))
  if (left.text === '' || right.text === '') throw new LeftOut('empty_text', 'one of the two answers is empty')
  if (left.text === right.text) throw new LeftOut('identical_answers', 'chosen and rejected are the same text')
  const texts = { chosen: left.text, rejected: right.text }
  if (left.spans.length + right.spans.length > 0) {
    const edits = zipSpans(left, right)
    if (edits && pairProblem({ ...pairFrame, ...texts, edits }) === undefined) return { ...texts, edits }
    note('tags_do_not_align')
  }
  return { ...texts, edits: diffEdits(texts.chosen, texts.rejected, 'diff') }
}

const pairFrame = { id: '-', sampleId: '-', images: [], prompt: '', origin: '', provenance: {} }

function zipSpans(left: Marked, right: Marked): Edit[] | undefined {
  if (left.spans.length !== right.spans.length) return undefined
  return left.spans
    .map((chosen, index): Edit => ({ chosen, rejected: right.spans[index], category: 'tag' }))
    .filter(({ chosen, rejected }) => chosen[0] < chosen[1] || rejected[0] < rejected[1])
}
