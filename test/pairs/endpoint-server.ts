/** A chat endpoint on this machine: a model that knows the word rules, and every way an endpoint can fail. */
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { RulesProvider, type Unit } from '../../src/pairs/index.js'

export interface Asked {
  body: string
  messages: { role: string; content: string }[]
  schema: string
  authorization: string | undefined
  hasFormat: boolean
}

/** Answers instead of the model and returns true, or lets the request pass. */
export type Fault = (response: ServerResponse, asked: Asked, number: number) => boolean

export class FakeEndpoint {
  /** Everything asked, in order. */
  asked: Asked[] = []
  /** Bodies of requests that got a paid reply. */
  paid: string[] = []
  fault: Fault = () => false
  /** What the model says instead; undefined = what it would say. */
  say: (asked: Asked, unit: Unit) => string | undefined = () => undefined
  usage: object | undefined = { prompt_tokens: 100, completion_tokens: 10 }
  delayMs = 0
  readonly #server: Server

  private constructor() {
    this.#server = createServer((request, response) => {
      let body = ''
      request.on('data', (part) => {
        body += part
      })
      request.on('end', () => void this.#answer(body, request.headers.authorization, response))
    })
  }

  static async start(): Promise<FakeEndpoint> {
    const fake = new FakeEndpoint()
    await new Promise<void>((resolve) => fake.#server.listen(0, '127.0.0.1', resolve))
    return fake
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1`
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  async #answer(body: string, authorization: string | undefined, response: ServerResponse): Promise<void> {
    const { messages, response_format: format } = JSON.parse(body)
    const schema = /"edits"|Propose/.test(messages[0].content)
      ? 'edits'
      : /A and B/.test(messages[0].content)
        ? 'comparison'
        : 'judgement'
    const asked: Asked = { body, messages, schema, authorization, hasFormat: format !== undefined }
    this.asked.push(asked)
    if (this.fault(response, asked, this.asked.length)) return
    if (this.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.delayMs))
    const unit = unitOf(messages[1].content)
    this.complete(response, asked, this.say(asked, unit) ?? (await think(asked, unit)))
  }

  /** A paid reply with this content. */
  complete(response: ServerResponse, asked: Asked, content: string, finish = 'stop'): true {
    this.paid.push(asked.body)
    const choices = [{ message: { role: 'assistant', content }, finish_reason: finish }]
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ choices, usage: this.usage }))
    return true
  }
}

function unitOf(data: string): Unit {
  const field = (name: string) =>
    new RegExp(`<<<${name} (\\w+)>>>\\n([\\s\\S]*?)\\n<<<end \\1>>>`).exec(data)?.[2] ?? ''
  return {
    id: 'x',
    task: 'vqa',
    question: field('question'),
    reference: field('reference'),
    text: field('answer'),
    meta: {},
  }
}

const rules = new RulesProvider()

async function think(asked: Asked, unit: Unit): Promise<string> {
  if (asked.schema === 'comparison') {
    const data = asked.messages[1].content
    const side = (name: string) =>
      new RegExp(`<<<${name} (\\w+)>>>\\n([\\s\\S]*?)\\n<<<end \\1>>>`).exec(data)?.[2] ?? ''
    const agrees = async (text: string) => (await rules.judge({ ...unit, text })).correct
    return JSON.stringify({ a_agrees: await agrees(side('A')), b_agrees: await agrees(side('B')) })
  }
  const judgement = await rules.judge(unit)
  if (asked.schema === 'judgement') {
    const verdict = judgement.decided ? (judgement.correct ? 'correct' : 'incorrect') : 'unclear'
    return JSON.stringify({ verdict, span: unit.text, reason: judgement.reason })
  }
  const proposal = await rules.edit(unit, judgement.correct ? 'counterfactual' : 'repair', judgement)
  if ('rejection' in proposal) return JSON.stringify({ edits: [] })
  const edits = proposal.edits.map(({ start, end, replacement, category }) => {
    // An insertion has nothing to find: the word before it stands in.
    const from = start === end ? unit.text.slice(0, start).search(/\S+\s*$/) : start
    const find = unit.text.slice(from, end)
    const before = [
      ...unit.text.slice(0, from).matchAll(new RegExp(`(?<![\\p{L}\\p{N}])${find}(?![\\p{L}\\p{N}])`, 'gu')),
    ]
    return { find, occurrence: before.length + 1, replace: unit.text.slice(from, start) + replacement, category }
  })
  return JSON.stringify({ edits })
}
