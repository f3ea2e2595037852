/**
 * Forms of a finished pair of answers, for the comparison of pair constructions. All are made of the same
 * pairs; a form loses those that it cannot be made of, such as one whose phrase is empty or whose sides become equal.
 */
import type { Pair } from '../data/records.js'
import { diffEdits } from './diff.js'
import { EditError } from './edits.js'
import type { PairMode } from './mode.js'
import type { Refusal } from './provider.js'

/** What is made of a pair of an answer and its edit; a mode that this does not have leaves the pair as it is. */
export const forms: Partial<Record<PairMode, (pair: Pair, reference: string) => Pair | Refusal>> = {
  phrases: phrasesAlone,
  'reference-chosen': referenceChosen,
}

/** The decisive phrases and nothing else, in their order, with one space between two. */
function phrasesAlone(pair: Pair): Pair | Refusal {
  const texts = { chosen: '', rejected: '' }
  const edits: Pair['edits'] = []
  for (const edit of pair.edits) {
    const add = (side: 'chosen' | 'rejected'): [number, number] => {
      const phrase = pair[side].slice(...edit[side]).trim()
      if (edits.length > 0) texts[side] += ' '
      const start = texts[side].length
      texts[side] += phrase
      return [start, texts[side].length]
    }
    edits.push({ chosen: add('chosen'), rejected: add('rejected'), category: edit.category })
  }
  const empty = edits.some(({ chosen, rejected }) => chosen[0] === chosen[1] || rejected[0] === rejected[1])
  if (empty) return { rejection: 'empty_side', detail: 'a phrase is empty on one side' }
  if (texts.chosen === texts.rejected) return sameSides
  return { ...pair, ...texts, edits }
}

/** The reference against what the pair rejects: sides of two styles. The phrases are the words that differ. */
function referenceChosen(pair: Pair, reference: string): Pair | Refusal {
  const chosen = reference.trim()
  if (chosen === pair.rejected) return sameSides
  try {
    return { ...pair, chosen, edits: diffEdits(chosen, pair.rejected, pair.edits[0].category) }
  } catch (error) {
    if (error instanceof EditError) return { rejection: error.problem, detail: error.message }
    throw error
  }
}

const sameSides: Refusal = { rejection: 'trivial_change', detail: 'both sides are the same text' }
