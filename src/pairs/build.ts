/**
 * What becomes of an answer: a pair, or a reason why not.
 *
 * A wrong answer is repaired: the model's own words are rejected and the mended text is chosen. A right answer is
 * turned into its counterfactual: the model's own words are chosen and the falsified text is rejected. Either way one
 * side is on-policy and the other differs from it by a few decisive words.
 */
import { pairProblem } from '../data/pairs.js'
import type { Pair } from '../data/records.js'
import type { AppliedEdits, EditProblem } from './edits.js'

/** How a pair came about: a wrong answer was mended, or a right one made wrong. */
export type Origin = 'repaired' | 'counterfactual'

/** Why an answer did not become a pair; the keys of the acceptance table. */
export type Rejection = 'empty_answer' | 'undecided' | 'no_edit_found' | EditProblem | VerificationFault | SourceFault

/** What a check of the finished pair found; see verify.ts. */
export type VerificationFault =
  | 'edit_ratio'
  | 'length'
  | 'sentence_count'
  | 'list_markers'
  | 'first_letter'
  | 'final_punctuation'
  | 'foreign_characters'
  | 'broken_language'
  | 'trivial_change'
  | 'pasted_reference'
  | 'self_contradiction'
  | 'chosen_contradicts_reference'
  | 'chosen_not_in_reference'
  | 'rejected_agrees_with_reference'
  | 'unread'
  | 'implausible_edit'
  | 'wrong_sentence_kept'
  | 'judges_disagree'
  | 'blind_judge'

/** What was wrong before there was a pair: with the record, or with what an endpoint sent. */
export type SourceFault =
  | 'duplicate'
  | 'no_reference'
  | 'span_not_found'
  | 'edit_not_found'
  | 'edit_ambiguous'
  | 'edit_outside_answer'
  | 'bad_reply'
  | 'endpoint_failed'
  | 'budget'

/** What became of an answer: a pair, or why not. */
export type PairOutcome = { pair: Pair; rejection: null } | { pair: null; rejection: Rejection; detail: string }

/** The pair of a text, which is the given side of it, and its edited twin. */
export function orientPair(
  record: Omit<Pair, 'chosen' | 'rejected' | 'edits'>,
  text: string,
  applied: AppliedEdits,
  side: 'chosen' | 'rejected',
): Pair {
  const isChosen = side === 'chosen'
  const { origin, provenance, ...rest } = record
  const pair: Pair = {
    ...rest,
    chosen: isChosen ? text : applied.text,
    rejected: isChosen ? applied.text : text,
    origin,
    edits: applied.edits.map(({ original, edited, category }) =>
      isChosen ? { chosen: original, rejected: edited, category } : { chosen: edited, rejected: original, category },
    ),
    provenance,
  }
  const problem = pairProblem(pair)
  if (problem) throw new Error(`Pair ${record.id}: ${problem}. This is a bug in the edits, not in the record.`)
  return pair
}
