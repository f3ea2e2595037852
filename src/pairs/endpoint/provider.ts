/** A language model as provider and as blind judge. What it says is checked for form here and for content in verify.ts. */
import type { z } from 'zod'
import {
  BudgetError,
  type ChatRequest,
  EmptyReply,
  type Endpoint,
  type Reply,
  RequestError,
  readStructured,
} from '../../endpoint/index.js'
import type { SourceFault } from '../build.js'
import type { EditProposal } from '../edits.js'
import type { BlindJudge, Goal, Judgement, Proposal, Provider, Refusal, Unit } from '../provider.js'
import { blindPrompt, blindReply, correctionPrompt, editPrompt, editReply, judgePrompt, judgeReply } from './prompts.js'

/** Why a reply cannot be used, in words for the model. */
class Unusable extends Error {
  constructor(
    readonly rejection: SourceFault,
    message: string,
  ) {
    super(message)
  }
}

/** A reply that cannot be used is asked for again, once, with the reason. */
const attempts = 2

/** Asks a language model to judge, edit and compare; replies are checked against a schema and cached. */
export class EndpointProvider implements Provider, BlindJudge {
  readonly oneClient = true

  constructor(readonly endpoint: Endpoint) {}

  get name(): string {
    return this.endpoint.settings.model
  }

  judge(unit: Unit): Promise<Judgement | Refusal> {
    return this.#converse(
      judgePrompt(unit),
      judgeReply,
      (value) => value.verdict,
      ({ verdict, span, reason }, requests): Judgement => {
        const start = unit.text.indexOf(span)
        if (start < 0) throw new Unusable('span_not_found', 'span is not copied from the answer character by character')
        const decided = verdict !== 'unclear'
        const where: [number, number] | null = span.trim() === '' ? null : [start, start + span.length]
        return { correct: verdict === 'correct', decided, reason, span: where, requests }
      },
    )
  }

  edit(unit: Unit, goal: Goal, _judgement: Judgement): Promise<Proposal | Refusal> {
    return this.#converse(
      editPrompt(unit, goal),
      editReply,
      (value) => value,
      ({ edits }, requests) => {
        return { edits: edits.map((edit) => locate(unit.text, edit)), requests }
      },
    )
  }

  compare(unit: Unit, first: string, second: string) {
    return this.#converse(
      blindPrompt(unit, first, second),
      blindReply,
      (value) => value,
      (reply, requests) => {
        return { first: reply.a_agrees, second: reply.b_agrees, requests }
      },
    )
  }

  async #converse<S extends z.ZodType, T extends object>(
    asked: ChatRequest,
    schema: S,
    agree: (reply: z.output<S>) => unknown,
    use: (reply: z.output<S>, requests: string[]) => T,
  ): Promise<T | Refusal> {
    let request = asked
    let last: Refusal = { rejection: 'bad_reply', detail: '' }
    const requests: string[] = []
    try {
      for (let attempt = 0; attempt < attempts; attempt++) {
        requests.push(this.endpoint.keyOf(request))
        const reply: ReturnType<typeof asNothing> = await this.endpoint.ask(request).catch(asNothing)
        const read = readStructured(reply, schema, agree)
        try {
          if (read.problem !== null) throw new Unusable('bad_reply', reply.nothing ?? read.problem)
          return use(read.value, requests)
        } catch (error) {
          if (!(error instanceof Unusable)) throw error
          last = { rejection: error.rejection, detail: error.message }
          request = correctionPrompt(asked, reply.content, error.message)
        }
      }
      return last
    } catch (error) {
      if (error instanceof BudgetError) return { rejection: 'budget', detail: error.message }
      if (error instanceof RequestError) return { rejection: 'endpoint_failed', detail: error.message }
      throw error
    }
  }
}

/** A reply without text cannot be used either; it says why it has none. */
function asNothing(error: unknown): Pick<Reply, 'content' | 'finishReason'> & { nothing?: string } {
  if (error instanceof EmptyReply)
    return { content: '', finishReason: null, nothing: `it is empty (${error.detail.why})` }
  throw error
}

interface ProposedEdit {
  find: string
  occurrence: number
  replace: string
  category: string
}

/** The place an edit means. An occurrence that does not exist is no edit, and nobody guesses which one was meant. */
function locate(text: string, { find, occurrence, replace, category }: ProposedEdit): EditProposal {
  const all: number[] = []
  for (let at = text.indexOf(find); at >= 0; at = text.indexOf(find, at + 1)) all.push(at)
  // The "no" of "nodule" is not meant by anybody, unless there is nothing else it could be.
  const whole = all.filter((at) => !splitsWord(text, at) && !splitsWord(text, at + find.length))
  const places = whole.length > 0 || all.length > 1 ? whole : all
  const shown = JSON.stringify(find.slice(0, 60))
  if (places.length === 0) throw new Unusable('edit_not_found', `${shown} does not occur in the answer`)
  const start = places[occurrence - 1]
  if (start === undefined) {
    throw new Unusable('edit_ambiguous', `${shown} occurs ${places.length} times, not ${occurrence}; count from 1`)
  }
  return { start, end: start + find.length, replacement: replace, category }
}

const splitsWord = (text: string, at: number) =>
  /[\p{L}\p{N}]$/u.test(text.slice(0, at)) && /^[\p{L}\p{N}]/u.test(text.slice(at))
