/**
 * From a judged answer to a preference pair.
 *
 * A wrong answer is repaired: the model's own words are rejected and the mended text is chosen. A right answer is
 * turned into its counterfactual: the model's own words are chosen and the falsified text is rejected. Either way one
 * side is on-policy and the other differs from it by a few decisive words. Both sides are judged again before the pair
 * is accepted, so no pair rests on the word of whoever proposed the edits.
 */
import { pairProblem } from '../data/pairs.js'
import type { ImageRef, Pair, Response } from '../data/records.js'
import { type AppliedEdits, applyEdits, EditError, type EditProblem, type EditProposal, editedShare } from './edits.js'

/** The verdict of a judge on one answer; `decided` is false when the answer commits to nothing that can be checked. */
export interface Verdict {
  correct: boolean
  decided: boolean
  reason: string
}

export type Origin = 'repaired' | 'counterfactual'

/** Why an answer did not become a pair; the keys of the acceptance table. */
export type Rejection =
  | 'empty_answer'
  | 'undecided'
  | 'no_edit_found'
  | 'too_many_words_changed'
  | 'not_verified'
  | EditProblem
  | VerificationFault
  | SourceFault

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

export interface PairRequest {
  id: string
  images: ImageRef[]
  response: Response
  verdict: Verdict
  /** The question, as `Pair.prompt` keeps it: without chat template or image placeholders. */
  prompt: string
  /** Edits that mend the answer. Called for a wrong answer only; `null` when none is known. */
  repair: () => EditProposal[] | null
  /** Edits that falsify the answer. Called for a right answer only; `null` when none is known. */
  counterfactual: () => EditProposal[] | null
  /** The judge again, on the edited text. */
  judge: (text: string) => Verdict
}

export interface PairLimits {
  /** Largest share of the answer's words that edits may touch, in (0, 1]. */
  maxEditedShare: number
}

export type PairOutcome = { pair: Pair; rejection: null } | { pair: null; rejection: Rejection; detail: string }

/** Builds and verifies one pair. Never throws for the content of an answer: what is wrong with it comes back as a reason. */
export function buildPair(request: PairRequest, limits: PairLimits): PairOutcome {
  const { response, verdict } = request
  if (response.text.trim() === '') return reject('empty_answer', 'the model said nothing')
  if (!verdict.decided) return reject('undecided', verdict.reason)
  const origin: Origin = verdict.correct ? 'counterfactual' : 'repaired'
  const proposals = verdict.correct ? request.counterfactual() : request.repair()
  if (proposals === null || proposals.length === 0) return reject('no_edit_found', `nothing to make it ${origin}`)
  let applied: AppliedEdits
  try {
    applied = applyEdits(response.text, proposals)
  } catch (error) {
    if (error instanceof EditError) return reject(error.problem, error.message)
    throw error
  }
  const share = editedShare(
    response.text,
    applied.edits.map((edit) => edit.original),
  )
  if (share > limits.maxEditedShare)
    return reject('too_many_words_changed', `${Math.round(share * 100)} % of the words`)
  const recheck = request.judge(applied.text)
  if (!recheck.decided || recheck.correct === verdict.correct) return reject('not_verified', recheck.reason)
  return { pair: orient(request, origin, applied), rejection: null }
}

const reject = (rejection: Rejection, detail: string): PairOutcome => ({ pair: null, rejection, detail })

function orient(request: PairRequest, origin: Origin, applied: AppliedEdits): Pair {
  const { id, images, prompt, response, verdict } = request
  const { sampleId, model, seed, sampling, text } = response
  const provenance = { model, seed, sampling, verdict: verdict.reason }
  const record = { id, sampleId, images, prompt, origin, provenance }
  return orientPair(record, text, applied, origin === 'repaired' ? 'rejected' : 'chosen')
}

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
