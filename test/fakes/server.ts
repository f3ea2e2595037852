/** A server on this machine that answers as a test says, and keeps what it was asked. */
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Asked {
  path: string
  headers: IncomingHttpHeaders
  body: string
  /** `performance.now()` when the request was read. */
  time: number
}

/** `number` counts requests from 1. A server that never answers leaves the response alone. */
export type Answer = (response: ServerResponse, asked: Asked, number: number) => void

export class FakeServer {
  asked: Asked[] = []
  /** The most requests that were open at once. */
  most = 0
  answer: Answer
  readonly #server: Server

  private constructor(answer: Answer) {
    this.answer = answer
    let open = 0
    this.#server = createServer(async (request, response) => {
      this.most = Math.max(this.most, ++open)
      response.on('close', () => open--)
      const chunks: Buffer[] = []
      try {
        for await (const chunk of request) chunks.push(chunk as Buffer)
      } catch {
        return // whoever asked is gone
      }
      const body = Buffer.concat(chunks).toString('utf8')
      const asked = { path: request.url ?? '', headers: request.headers, body, time: performance.now() }
      this.asked.push(asked)
      this.answer(response, asked, this.asked.length)
    })
  }

  static async start(answer: Answer): Promise<FakeServer> {
    const fake = new FakeServer(answer)
    await new Promise<void>((resolve) => fake.#server.listen(0, '127.0.0.1', resolve))
    return fake
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}
