/** Who answers: the same few words for an engine of ours and for a server. */
import { z } from 'zod'
import type { Response } from '../data/records.js'
import { withoutReasoning } from '../endpoint/reasoning.js'
import { DataError, type FireError } from '../errors.js'
import { type Asked, shownIn } from './questions.js'

/** A question that got no answer, with the reason; one line of `*.failed.jsonl`. */
export const failure = z.strictObject({
  sampleId: z.string().min(1),
  prompt: z.string(),
  /** SHA-256 of the images that were to be shown; null for one that cannot be read. */
  images: z.array(z.string().nullable()),
  seed: z.number().int(),
  code: z.string(),
  reason: z.string(),
})

/** A question without an answer, and why. */
export type Failure = z.infer<typeof failure>

/** What became of a question; `code` tells a failure from a response. */
export type Outcome = Response | Failure

/** Who answers: `engineAnswerer`, `serverAnswerer`, or one of your own. */
export interface Answerer {
  /** What every answer says about where it comes from; known before anything is opened. */
  readonly about: Pick<Response, 'model' | 'adapter' | 'sampling'>
  /** It keeps a budget and a pace, so that of several ranks one asks everything. */
  readonly oneClient?: true
  /**
   * One outcome a question, in their order.
   * @throws when it cannot go on at all; what concerns one question only is an outcome.
   */
  answer(asked: AsyncIterable<Asked>, signal?: AbortSignal): AsyncGenerator<Outcome>
}

/** An answer without a word is none, whoever gave it, and so is reasoning with nothing behind it. */
export function heard(outcome: Outcome): Outcome {
  if ('reason' in outcome || withoutReasoning(outcome.text).trim() !== '') return outcome
  const { sampleId, prompt, images = [], seed, text } = outcome
  const reason = text.trim() === '' ? 'the answer is empty' : 'the answer is reasoning alone'
  return { sampleId, prompt, images, seed, code: 'ERR_FIRE_DATA', reason }
}

/** Names the first few failures, for people; all are in the file. */
export function namingFirst(log: (line: string) => void, most = 5): (failure: Failure) => void {
  let named = 0
  return ({ sampleId, reason }) => {
    named += 1
    if (named <= most) log(`record ${sampleId}: ${reason}`)
    if (named === most + 1) log('more records have no answer')
  }
}

/** Why a run of questions failed of which some might have been left out: none has an answer. */
export function noAnswer(failures?: string | null): DataError {
  return new DataError('No question has an answer', { hint: failures ? `The reasons are in ${failures}.` : undefined })
}

/** The outcome for an error that concerns one question. */
export function failed(asked: Asked, { code, message: reason }: FireError): Failure {
  const { sampleId, prompt, seed } = asked
  return { sampleId, prompt, images: shownIn(asked), seed, code, reason }
}
