/** Numbers and outcomes in words. What a report claims is decided here, by the numbers and nothing else. */
import type { Resolution } from '../evaluate/compare.js'
import { conclusionDetail } from '../evaluate/page/words.js'
import { percent } from '../page/numbers.js'
import type { Rejection } from '../pairs/index.js'
import type { ComparedRounds } from './types.js'

export interface Headline {
  conclusion: Resolution
  title: string
  detail: string
}

/** The one sentence a reader takes away: `gain` and `loss` are the conclusion of the evaluation, and nothing else is. */
export function headline({ comparison, ...results }: ComparedRounds): Headline {
  const { conclusion } = comparison
  const titles: Record<Resolution, string> = {
    gain: 'A significant gain in accuracy',
    loss: 'A significant loss of accuracy',
    equivalent: `Accuracy is equivalent within ${percent(results.margin)} points`,
    not_resolved: 'A change in accuracy is not resolved',
  }
  return { conclusion, title: titles[conclusion], detail: conclusionDetail(comparison, results) }
}

const ASKS: Record<string, string> = {
  closed: 'yes or no',
  open: 'any other answer',
  presence: 'is it there?',
  side: 'left or right?',
  'side-check': 'is it on this side?',
  zone: 'upper, middle or lower?',
  where: 'side and zone',
  size: 'small or large?',
  count: 'how many?',
  kind: 'what is wrong in this region?',
  report: 'describe what you see',
}

/** What a kind of question or answer is, in a few words; undefined for kinds that a data set brought itself. */
export const askWords = (ask: string): string | undefined => own(ASKS, ask)

/** What a table has under a name that a file chose. */
const own = (table: Record<string, string>, name: string): string | undefined =>
  Object.hasOwn(table, name) ? table[name] : undefined

const CORRUPTIONS: Record<string, string> = {
  'lesion-noise': 'noise on the lesion',
  'lesion-noise-elsewhere': 'as much noise beside the lesion',
  'lesion-blackout': 'lesion blacked out',
  'image-noise': 'noise on the whole image',
}

/** How a corrupted twin was made: `noise on the lesion, σ 45`. */
export const corruptionWords = ({ method, sigma }: { method: string; sigma: number }): string =>
  `${own(CORRUPTIONS, method) ?? method.replace(/[_-]+/g, ' ')}${sigma > 0 ? `, σ\u00a0${sigma}` : ''}`

const REASONS: Record<Rejection, string> = {
  empty_answer: 'The model said nothing',
  undecided: 'The answer commits to nothing that can be judged',
  no_edit_found: 'No minimal edit was found',
  out_of_range: 'A proposed edit lies outside the text',
  overlap: 'Proposed edits overlap',
  unchanged: 'The proposed edits change nothing',
  empty_side: 'One side would be left without a word',
  edit_ratio: 'The edit would touch too many words',
  length: 'The edit would change the length too much',
  sentence_count: 'The edit would add or drop a sentence',
  list_markers: 'The edit would change the markers of a list',
  first_letter: 'The edit would change the case of the first letter',
  final_punctuation: 'The edit would change the last punctuation mark',
  foreign_characters: 'The edit would bring characters that nobody sees',
  broken_language: 'The edit would leave broken English',
  trivial_change: 'Both sides would claim the same',
  pasted_reference: 'The edit would paste words of the reference',
  self_contradiction: 'A side would affirm and deny',
  chosen_contradicts_reference: 'The chosen side would contradict the reference',
  chosen_not_in_reference: 'The chosen side would have no word of the reference',
  rejected_agrees_with_reference: 'The rejected side would agree with the reference',
  unread: 'The word rules cannot read both sides',
  implausible_edit: 'The policy finds the edit too unlikely',
  wrong_sentence_kept: 'A sentence that may be wrong would stand on both sides',
  judges_disagree: 'Word rules and judge disagree',
  blind_judge: 'The blind judge did not prefer the chosen side',
  duplicate: 'The same text as an earlier answer',
  no_reference: 'The sample has no reference answer',
  span_not_found: 'The judge marked words that the answer lacks',
  edit_not_found: 'An edit names words that the answer lacks',
  edit_ambiguous: 'An edit names words that occur several times',
  edit_outside_answer: 'No edit is in the sentence that answers',
  bad_reply: 'The language model’s reply could not be read',
  endpoint_failed: 'The endpoint failed',
  budget: 'The budget was spent',
}

/** An identifier as words: a known reason of rejection, or `side_check` and `side-check` as "Side check". */
export function readable(name: string): string {
  const words = own(REASONS, name) ?? name.replace(/[_-]+/g, ' ').replace(/\+/g, ' and ')
  return words.charAt(0).toUpperCase() + words.slice(1)
}
