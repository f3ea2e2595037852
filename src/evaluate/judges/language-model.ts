/** A language model as judge. A reply that says nothing is asked for once more, and is then `unreadable`: never right, never wrong. */
import { EmptyReply, type Endpoint, type Message, RequestError } from '../../endpoint/index.js'
import { Serving } from '../../endpoint/serving.js'
import type { JudgeVerdict } from '../records.js'
import { type JudgedQuestion, type JudgeProtocolName, promptHash, protocols } from './protocols.js'

/** A reply that cannot be read is asked for again, once, with the reason. */
const attempts = 2

/** Judges answers through one endpoint; replies are cached, so the same question is paid for once. */
export class LanguageModelJudge {
  readonly promptSha256: string
  /** Who answered, and when. */
  readonly serving = new Serving()

  constructor(
    readonly endpoint: Endpoint,
    readonly protocol: JudgeProtocolName = 'ours',
  ) {
    this.promptSha256 = promptHash(protocol)
  }

  /**
   * The verdict on one answer. A request that fails is `failed`: what the network did is no verdict.
   * @throws {EndpointError} when no request can succeed, or the budget is spent; what was paid for is kept.
   */
  async judge(asked: JudgedQuestion): Promise<JudgeVerdict> {
    const { messages, schema, read } = protocols[this.protocol]
    const { model } = this.endpoint.settings
    const requests: string[] = []
    let servedAs: string | null = null
    let date: string | null = null
    let raw: string | null = null
    const about = () => ({ model, servedAs, date, promptSha256: this.promptSha256, requests })
    let conversation = messages(asked)
    let finish: string | null = null
    let reason = ''
    for (let attempt = 0; attempt < attempts; attempt++) {
      const request = { messages: conversation, schema, temperature: 0 }
      requests.push(this.endpoint.keyOf(request))
      try {
        const reply = await this.endpoint.ask(request)
        finish = reply.finishReason
        servedAs = reply.model ?? null
        date = reply.date ?? null
        this.serving.add(reply)
        const found = read(reply)
        if (!('problem' in found)) return { ...about(), ...found, finish, retries: attempt, raw: reply.content }
        raw = reply.content
        reason = found.problem
        conversation = [...messages(asked), { role: 'assistant', content: reply.content }, complaint(reason)]
      } catch (error) {
        if (error instanceof EmptyReply) [reason, raw] = [error.message, '']
        else if (error instanceof RequestError) {
          return { ...about(), verdict: 'failed', reason: error.message, finish, retries: attempt, raw }
        } else throw error
        // Servers refuse two turns of one role, and some an empty turn.
        conversation = [...messages(asked), { role: 'assistant', content: '(empty)' }, complaint('it is empty')]
      }
    }
    return { ...about(), verdict: 'unreadable', reason, finish, retries: attempts - 1, raw }
  }
}

const complaint = (problem: string): Message => ({
  role: 'user',
  content: `Your reply cannot be read: ${problem}. Reply again, with nothing but what was asked for.`,
})
