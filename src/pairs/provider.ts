/** Who judges answers and proposes edits: word rules offline, or a language model behind an endpoint. */
import type { Verdict } from '../data/records.js'
import type { Rejection } from './build.js'
import type { EditProposal } from './edits.js'

/** One text to judge: a whole answer, or one sentence of a report. */
export interface Unit {
  /** Seeds every choice, so the same unit always becomes the same edit. */
  id: string
  task: 'vqa' | 'report'
  question: string
  reference: string
  text: string
  /** What the sample's record says beside question and reference. */
  meta: Readonly<Record<string, unknown>>
}

/** Make a wrong text right, or a right text wrong. */
export type Goal = 'repair' | 'counterfactual'

/** The verdict on a text, and the part of it that decides. */
export interface Judgement extends Verdict {
  /** Where in the text the question is answered; `null` when the whole text is the answer. */
  span: [number, number] | null
  /** Keys of the cached requests this rests on, for provenance. */
  requests: string[]
}

/** No judgement or edit, and why; the answer is then counted, not lost. */
export interface Refusal {
  rejection: Rejection
  detail: string
}

/** Edits that a provider proposes; they are verified before they become a pair. */
export interface Proposal {
  edits: EditProposal[]
  requests: string[]
}

/** Who judges answers and proposes edits. Implement it to bring your own. */
export interface Provider {
  /** For provenance: `rules`, or the endpoint's model. */
  readonly name: string
  /** Its verdicts are the truth and no opinion: only where the world was made, as the phantom's. */
  readonly isExact?: true
  /** It asks a server, with a budget and a pace: of several ranks one asks everything. */
  readonly oneClient?: true
  /** Whether the text is right. Throws only when no further unit can be judged. */
  judge(unit: Unit): Promise<Judgement | Refusal>
  /** The smallest change of the text that reaches the goal. */
  edit(unit: Unit, goal: Goal, judgement: Judgement): Promise<Proposal | Refusal>
}

/** Says of two texts in an order it does not know which of them agree with the reference. */
export interface BlindJudge {
  readonly name: string
  /** As in `Provider`. */
  readonly oneClient?: true
  /** Which of the two texts agree with the reference: none, one or both. */
  compare(
    unit: Unit,
    first: string,
    second: string,
  ): Promise<{ first: boolean; second: boolean; requests: string[] } | Refusal>
}

export function isRefusal(answer: object): answer is Refusal {
  return 'rejection' in answer
}
