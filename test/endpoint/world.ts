/** A server, a cache and a log, new for each test of the file that imports this. */
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, vi } from 'vitest'
import {
  type ChatRequest,
  type Endpoint,
  type EndpointInput,
  type EndpointOptions,
  openEndpoint,
} from '../../src/endpoint/index.js'
import type { EndpointError } from '../../src/errors.js'
import { type Answer, FakeServer } from '../fakes/server.js'
import { temporaryFolder } from '../fakes/world.js'

export const key = 'sk-secret-4711'
export let server: FakeServer
export let cache: string
export let log: string[]

beforeEach(async () => {
  vi.stubEnv('FIRE_TEST_KEY', key)
  server = await FakeServer.start((response) => say(response, 'fine'))
  cache = join(await temporaryFolder(), 'cache')
  log = []
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await server.stop()
})

export function open(more: Partial<EndpointInput> = {}, options: EndpointOptions = {}): Promise<Endpoint> {
  const usual = { url: `${server.url}/v1`, model: 'm', keyEnv: 'FIRE_TEST_KEY', retryDelay: 0.001, retries: 2 }
  return openEndpoint({ ...usual, ...more }, { onLog: (line) => log.push(line), ...options })
}

export function question(text: string, more: Partial<ChatRequest> = {}): ChatRequest {
  return { messages: [{ role: 'user', content: text }], ...more }
}

export const tokens = { prompt_tokens: 1000, completion_tokens: 100 }

export function reply(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, headers).end(typeof body === 'string' ? body : JSON.stringify(body))
}

/** A paid reply. */
export function say(response: ServerResponse, content: unknown, finish = 'stop', usage: unknown = tokens): void {
  reply(response, 200, { choices: [{ message: { role: 'assistant', content }, finish_reason: finish }], usage })
}

export const failure = (asked: Promise<unknown>) =>
  asked.then(
    () => expect.fail('it went well'),
    (error) => error as EndpointError,
  )

export const sent = (number: number): Record<string, unknown> => JSON.parse(server.asked[number].body)

/** Requests `number` that `fails` says fail with `fault`, the others go well. */
export const unless =
  (fails: (number: number) => boolean, fault: Answer): Answer =>
  (response, asked, number) =>
    fails(number) ? fault(response, asked, number) : say(response, 'fine')
