/**
 * From two finished answers to the edits between them, word by word. The search is that of `diff`: the shortest script
 * between two lists, which gives up at a bound.
 */
import { diffArrays } from 'diff'
import type { Edit } from '../data/records.js'
import { applyEdits, type EditProposal } from './edits.js'

/** A Chinese character is a word of its own; a number keeps its decimal mark, a word its hyphens and apostrophes. */
const pieces = /\p{Script=Han}|[\p{L}\p{N}\p{M}_]+(?:[.,'’-][\p{L}\p{N}\p{M}]+)*|\s+|[^\s]/gu

/** Two texts further apart than this are one edit: the search is quadratic, and phrases of such a pair mean nothing. */
const mostChanges = 2000

/**
 * The edits that turn `chosen` into `rejected`, under the rules of `applyEdits`. None for equal texts.
 * @throws EditError `empty_side` when one text has no words at all.
 */
export function diffEdits(chosen: string, rejected: string, category: string): Edit[] {
  if (chosen === rejected) return []
  const { text, edits } = applyEdits(chosen, proposals(chosen, rejected, category))
  if (text !== rejected) throw new Error('The word diff does not lead from one text to the other. This is a bug.')
  return edits.map(({ original, edited }) => ({ chosen: original, rejected: edited, category }))
}

function proposals(chosen: string, rejected: string, category: string): EditProposal[] {
  const changes = diffArrays(chosen.match(pieces) ?? [], rejected.match(pieces) ?? [], { maxEditLength: mostChanges })
  if (changes === undefined) return [{ start: 0, end: chosen.length, replacement: rejected, category }]
  const found: EditProposal[] = []
  let at = 0
  let open: EditProposal | undefined
  for (const { added, removed, value } of changes) {
    const text = value.join('')
    if (!added && !removed) {
      // Words that changed side by side are one phrase; what they share at their ends is trimmed off again.
      if (open !== undefined && text.trim() === '') {
        open.replacement += text
        open.end = at += text.length
        continue
      }
      open = undefined
      at += text.length
      continue
    }
    if (open === undefined) {
      open = { start: at, end: at, replacement: '', category }
      found.push(open)
    }
    if (added) open.replacement += text
    else open.end = at += text.length
  }
  return found
}
