/** The client of language-model servers: what it sends, what it pays, and how it takes what servers do. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { z } from 'zod'
import {
  BudgetError,
  type ChatRequest,
  EmptyReply,
  type Endpoint,
  type EndpointInput,
  type EndpointOptions,
  endpointSettings,
  imagePart,
  openEndpoint,
  RequestError,
} from '../../src/endpoint/index.js'
import { ConfigError, type EndpointError } from '../../src/errors.js'
import { type Answer, FakeServer } from '../fakes/server.js'
import { temporaryFolder } from '../fakes/world.js'

const key = 'sk-secret-4711'
let server: FakeServer
let cache: string
let log: string[]

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

function open(more: Partial<EndpointInput> = {}, options: EndpointOptions = {}): Promise<Endpoint> {
  const usual = { url: `${server.url}/v1`, model: 'm', keyEnv: 'FIRE_TEST_KEY', retryDelay: 0.001, retries: 2 }
  return openEndpoint({ ...usual, ...more }, { onLog: (line) => log.push(line), ...options })
}

function question(text: string, more: Partial<ChatRequest> = {}): ChatRequest {
  return { messages: [{ role: 'user', content: text }], ...more }
}

const tokens = { prompt_tokens: 1000, completion_tokens: 100 }

function reply(response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(status, headers).end(typeof body === 'string' ? body : JSON.stringify(body))
}

/** A paid reply. */
function say(response: ServerResponse, content: unknown, finish = 'stop', usage: unknown = tokens): void {
  reply(response, 200, { choices: [{ message: { role: 'assistant', content }, finish_reason: finish }], usage })
}

const failure = (asked: Promise<unknown>) =>
  asked.then(
    () => expect.fail('it went well'),
    (error) => error as EndpointError,
  )

const sent = (number: number): Record<string, unknown> => JSON.parse(server.asked[number].body)

/** Requests `number` that `fails` says fail with `fault`, the others go well. */
const unless =
  (fails: (number: number) => boolean, fault: Answer): Answer =>
  (response, asked, number) =>
    fails(number) ? fault(response, asked, number) : say(response, 'fine')

describe('a request', () => {
  it('is a chat completion with images, sampling and a schema', async () => {
    const image = imagePart({ mime: 'image/png', bytes: Buffer.from('png') })
    const schema = { name: 'verdict', schema: { type: 'object' } }
    const sampling = { temperature: 0.7, topP: 0.9, topK: 40, seed: 7, stop: ['\n'] }
    const endpoint = await open({ maxTokens: 99 })
    const messages = [{ role: 'user' as const, content: [image, { type: 'text' as const, text: 'What is it?' }] }]
    expect(await endpoint.ask({ messages, schema, ...sampling })).toEqual({
      content: 'fine',
      finishReason: 'stop',
      promptTokens: 1000,
      completionTokens: 100,
    })
    const [{ path, headers }] = server.asked
    expect([path, headers.authorization]).toEqual(['/v1/chat/completions', `Bearer ${key}`])
    expect(headers).not.toHaveProperty('api-key')
    expect(sent(0)).toEqual({
      model: 'm',
      max_tokens: 99,
      temperature: 0.7,
      top_p: 0.9,
      top_k: 40,
      seed: 7,
      stop: ['\n'],
      messages: [
        {
          role: 'user',
          content: [
            { type: 'image_url', image_url: { url: 'data:image/png;base64,cG5n' } },
            { type: 'text', text: 'What is it?' },
          ],
        },
      ],
      response_format: { type: 'json_schema', json_schema: { ...schema, strict: true } },
    })
  })

  it('says no more than it must', async () => {
    await (await open({ keyEnv: null })).ask(question('q', { topK: 0, stop: [] }))
    expect(sent(0)).toEqual({ model: 'm', messages: question('q').messages, max_tokens: 1024, temperature: 0 })
    expect(server.asked[0].headers).not.toHaveProperty('authorization')
  })

  it('may be a text to be continued', async () => {
    const said = { choices: [{ text: ' lung', finish_reason: 'length' }], usage: tokens }
    server.answer = (response) => reply(response, 200, said)
    const endpoint = await open({ maxTokens: 2 }, { cache })
    const request = { prompt: '[INST] Left or right? [/INST]', seed: 1 }
    expect(await endpoint.ask(request)).toMatchObject({ content: ' lung', finishReason: 'length' })
    expect(server.asked[0].path).toBe('/v1/completions')
    expect(sent(0)).toEqual({ model: 'm', prompt: request.prompt, max_tokens: 2, temperature: 0, seed: 1 })
    await (await open({ maxTokens: 2 }, { cache })).ask(request)
    expect(server.asked).toHaveLength(1)
  })

  it('goes to Azure with its version and its kind of key', async () => {
    await (await open({ url: `${server.url}/openai/deployments/d/?api-version=2024-10-21` })).ask(question('q'))
    const [{ path, headers }] = server.asked
    expect(path).toBe('/openai/deployments/d/chat/completions?api-version=2024-10-21')
    expect(headers['api-key']).toBe(key)
  })
})

describe('settings', () => {
  it.each<[string, Partial<EndpointInput>]>([
    ['an address without http', { url: 'localhost:8000' }],
    ['a password in the address', { url: 'http://me:sk-secret-4711@127.0.0.1/v1' }],
    ['no model', { model: '' }],
    ['no concurrency', { concurrency: 0 }],
    ['half a request at a time', { concurrency: 1.5 }],
    ['no time', { timeout: 0 }],
    ['a time that is none', { timeout: Number.NaN }],
    ['more time than fetch has', { timeout: 301 }],
    ['retries for ever', { retries: Number.POSITIVE_INFINITY }],
    ['a budget below nothing', { budget: -1, priceIn: 1 }],
    ['a budget without prices', { budget: 1 }],
    ['a variable without a key', { keyEnv: 'FIRE_TEST_NO_KEY' }],
    ['a key that is unknown', { keys: 1 } as object],
  ])('are refused for %s', async (_, wrong) => {
    const error = await failure(open(wrong))
    expect(error).toBeInstanceOf(ConfigError)
    expect(JSON.stringify([error.message, error.stack, error])).not.toContain('4711')
  })

  it('each say in words what they are, and what they are when left out', () => {
    const { properties } = z.toJSONSchema(endpointSettings, { io: 'input' }) as {
      properties: Record<string, { description?: string; default?: unknown }>
    }
    for (const [name, { description }] of Object.entries(properties)) expect(description, name).toMatch(/^[A-Z]/)
    const without = Object.keys(properties).filter((name) => !('default' in properties[name]))
    expect(without).toEqual(['url', 'model'])
  })
})

describe('the cache', () => {
  it('pays for nothing twice, in one run or the next, and has no key in it', async () => {
    const endpoint = await open({ budget: 10, priceIn: 10, priceOut: 100 }, { cache })
    const first = await endpoint.ask(question('q'))
    expect(await endpoint.ask(question('q'))).toEqual(first)
    expect(endpoint.usage).toEqual({ requests: 1, promptTokens: 1000, completionTokens: 100, cost: 0.02 })
    expect(endpoint.sent).toBe(1)
    const again = await open({ budget: 10, priceIn: 10, priceOut: 100 }, { cache })
    expect(await again.ask(question('q'))).toEqual(first)
    expect([again.usage, again.sent, server.asked.length]).toEqual([endpoint.usage, 0, 1])
    const names = await readdir(cache)
    expect(names).toHaveLength(1)
    expect(await readFile(join(cache, names[0]), 'utf8')).not.toContain(key)
  })

  it('is not paid for again when the budget is spent', async () => {
    const poor = { budget: 0.0301, priceIn: 10, priceOut: 100, maxTokens: 100 }
    await (await open(poor, { cache })).ask(question('q'))
    const again = await open(poor, { cache })
    await again.ask(question('q'))
    expect(await failure(again.ask(question(`another ${'x'.repeat(3000)}`)))).toBeInstanceOf(BudgetError)
    expect(server.asked).toHaveLength(1)
  })

  it('finds what earlier versions paid for', async () => {
    await mkdir(cache, { recursive: true })
    const old = { content: 'paid', finishReason: null, promptTokens: 3, completionTokens: 4 }
    await writeFile(join(cache, '87915dd941e89ce3b98c68a077c01d99.json'), `${JSON.stringify(old)}\n`)
    const endpoint = await open({ url: 'http://127.0.0.1:8000/v1/', maxTokens: 100 }, { cache })
    const messages = [
      { role: 'system' as const, content: 'Judge.' },
      { role: 'user' as const, content: 'Is it?' },
    ]
    const request = { messages, schema: { name: 'judgement', schema: { type: 'object' } } }
    expect(await endpoint.ask(request)).toEqual(old)
    expect(endpoint.keyOf(request)).toBe('87915dd941e89ce3b98c68a077c01d99')
  })

  it('asks again where a file is damaged', async () => {
    await (await open({}, { cache })).ask(question('q'))
    const [name] = await readdir(cache)
    for (const damaged of ['', '{"content":"ha', '{"content":"half"}']) {
      await writeFile(join(cache, name), damaged)
      expect(await (await open({}, { cache })).ask(question('q'))).toMatchObject({ content: 'fine' })
    }
    expect(server.asked).toHaveLength(4)
    expect(JSON.parse(await readFile(join(cache, name), 'utf8'))).toMatchObject({ content: 'fine' })
  })

  it('tells apart whatever changes a reply, and nothing else', async () => {
    const endpoint = await open()
    const image = imagePart({ mime: 'image/png', bytes: Buffer.from('png') })
    const requests = [
      ...[question('q'), question('Q'), { prompt: 'q' }, question('q', { seed: 1 }), question('q', { seed: 2 })],
      ...[question('q', { temperature: 0.5 }), question('q', { stop: ['.'] }), question('q', { topP: 0.5 })],
      question('q', { schema: { name: 'n', schema: {} } }),
      { messages: [{ role: 'user' as const, content: [image] }] },
    ]
    const others = [await open({ model: 'n' }), await open({ maxTokens: 2 }), await open({ url: server.url })]
    const names = [...requests.map((request) => endpoint.keyOf(request)), ...others.map((o) => o.keyOf(question('q')))]
    expect(new Set(names).size).toBe(names.length)
    const same = [await open({ url: `${server.url}/v1/` }), await open({ keyEnv: null, retries: 9, concurrency: 1 })]
    for (const other of same) expect(other.keyOf(question('q', { seed: undefined }))).toBe(names[0])
  })

  it('has one request under way for all who ask the same', async () => {
    server.answer = (response) => setTimeout(() => say(response, 'fine'), 30)
    const endpoint = await open()
    const replies = await Promise.all([1, 2, 3].map(() => endpoint.ask(question('q'))))
    expect(replies.map(({ content }) => content)).toEqual(['fine', 'fine', 'fine'])
    expect(server.asked).toHaveLength(1)
  })

  it('keeps no failure', async () => {
    server.answer = unless(
      (number) => number === 1,
      (response) => reply(response, 400, 'no'),
    )
    const endpoint = await open()
    await expect(endpoint.ask(question('q'))).rejects.toThrow('answered 400: no')
    expect(await endpoint.ask(question('q'))).toMatchObject({ content: 'fine' })
  })
})

describe('the budget', () => {
  const prices = { priceIn: 10, priceOut: 100, maxTokens: 100 }

  it('is never exceeded, also with many requests under way', async () => {
    server.answer = (response) => setTimeout(() => say(response, 'fine'), 10)
    const endpoint = await open({ ...prices, budget: 0.5, concurrency: 8 })
    const asked = Array.from({ length: 60 }, (_, index) => endpoint.ask(question(`q${index}`.padEnd(1000))))
    const spent = (await Promise.allSettled(asked)).filter(({ status }) => status === 'rejected')
    expect(spent.every((outcome) => outcome.status === 'rejected' && outcome.reason instanceof BudgetError)).toBe(true)
    expect(server.asked.length).toBeGreaterThan(10)
    expect(spent).toHaveLength(60 - server.asked.length)
    expect(endpoint.usage.cost).toBeCloseTo(server.asked.length * 0.02, 10)
    expect(endpoint.usage.cost).toBeLessThanOrEqual(0.5)
  })

  it('counts the bytes of a text, and images as more than any model makes of one', async () => {
    // 100 tokens of reply are $0.01; the request has some 60 bytes, $0.0006.
    await expect((await open({ ...prices, budget: 0.0101 })).ask(question('q'))).rejects.toBeInstanceOf(BudgetError)
    await (await open({ ...prices, budget: 0.012 })).ask(question('q'))
    const content = [imagePart({ mime: 'image/png', bytes: Buffer.alloc(10_000_000) })]
    const request = { messages: [{ role: 'user' as const, content }] }
    await expect((await open({ ...prices, budget: 0.66 })).ask(request)).rejects.toBeInstanceOf(BudgetError)
    await (await open({ ...prices, budget: 0.68 })).ask(request)
    expect(server.asked).toHaveLength(2)
  })

  it('lets requests wait for each other where it suffices for them one by one', async () => {
    const usage = { prompt_tokens: 2000, completion_tokens: 100 }
    server.answer = (response) => setTimeout(() => say(response, 'fine', 'stop', usage), 10)
    // An image is $0.66 before it is sent, and $0.03 after.
    const endpoint = await open({ ...prices, budget: 1, concurrency: 8 })
    const content = [imagePart({ mime: 'image/png', bytes: Buffer.from('png') })]
    const asked = Array.from({ length: 9 }, (_, seed) => endpoint.ask({ messages: [{ role: 'user', content }], seed }))
    await Promise.all(asked)
    expect(server.most).toBe(1)
    expect(endpoint.usage.cost).toBeCloseTo(0.27, 10)
  })

  it('sets nothing aside for requests that ended', async () => {
    server.answer = unless(
      (number) => number <= 5,
      (response) => reply(response, 400, 'no'),
    )
    const endpoint = await open({ ...prices, budget: 0.012 })
    for (let index = 0; index < 5; index++) await failure(endpoint.ask(question('q')))
    expect(await endpoint.ask(question('q'))).toMatchObject({ content: 'fine' })
  })

  it('cannot be kept where tokens are not counted', async () => {
    server.answer = (response) => say(response, 'fine', 'stop', null)
    await expect((await open({ ...prices, budget: 1 })).ask(question('q'))).rejects.toThrow('how many tokens')
    const free = await open()
    expect(await free.ask(question('q'))).toMatchObject({ promptTokens: 0 })
  })
})

describe('the pace', () => {
  it('keeps to so many requests at once', async () => {
    server.answer = (response) => setTimeout(() => say(response, 'fine'), 20)
    const endpoint = await open({ concurrency: 3 })
    await Promise.all(Array.from({ length: 12 }, (_, index) => endpoint.ask(question(`q${index}`))))
    expect(server.most).toBe(3)
  })

  it('keeps to so many requests a minute', async () => {
    const endpoint = await open({ requestsPerMinute: 600, concurrency: 8 })
    await Promise.all([1, 2, 3].map((index) => endpoint.ask(question(`q${index}`))))
    const [first, , third] = server.asked.map(({ time }) => time)
    expect(third - first).toBeGreaterThan(180)
  })

  it('pauses for all when one is asked to', async () => {
    server.answer = unless(
      (number) => number === 1,
      (response) => reply(response, 429, 'slow down', { 'retry-after': '0.5' }),
    )
    const endpoint = await open()
    const first = endpoint.ask(question('a'))
    while (log.length === 0) await sleep(1)
    await Promise.all([first, endpoint.ask(question('b'))])
    expect(server.asked).toHaveLength(3)
    expect(server.asked[1].time - server.asked[0].time).toBeGreaterThan(450)
    expect(log).toEqual([`${server.url}/v1/chat/completions: too many requests: slow down; trying again in 1 s`])
  })

  it('ends at a signal', async () => {
    server.answer = () => {}
    const stop = new AbortController()
    const endpoint = await open({ concurrency: 1 }, { signal: stop.signal })
    const asked = [failure(endpoint.ask(question('a'))), failure(endpoint.ask(question('b')))]
    setTimeout(() => stop.abort(), 50)
    for (const error of await Promise.all(asked)) expect(error.name).toBe('AbortError')
    expect(server.asked).toHaveLength(1)
  })
})

describe('a server', () => {
  it.each<[string, Answer]>([
    ['too many requests', (response) => reply(response, 429, '{}', { 'retry-after': '0' })],
    ['a gateway page', (response) => reply(response, 502, '<html>Bad Gateway</html>')],
    ['a page instead of a reply', (response) => reply(response, 200, '<!doctype html><title>Login</title>')],
    ['JSON of another kind', (response) => reply(response, 200, { id: 1 })],
    ['no choices', (response) => reply(response, 200, { choices: [] })],
    ['an error under status 200', (response) => reply(response, 200, { error: { message: 'overloaded' } })],
    ['one with its number', (response) => reply(response, 200, { error: { message: 'slow down', code: 429 } })],
    ['a reply that is cut off', (response) => reply(response, 200, '{"choices":[{"mess')],
    ['less than it announces', (response) => reply(response, 200, '{"choices":[{"mess', { 'content-length': '500' })],
    ['a closed connection', (response) => response.destroy()],
    ['silence', () => {}],
  ])('is asked again after %s', async (_, fault) => {
    server.answer = unless((number) => number < 3, fault)
    const endpoint = await open({ timeout: 0.2 })
    expect(await endpoint.ask(question('q'))).toMatchObject({ content: 'fine' })
    expect([server.asked.length, endpoint.sent, log.length]).toEqual([3, 1, 2])
    server.answer = fault
    const error = await failure(endpoint.ask(question('other')))
    expect(error).toBeInstanceOf(RequestError)
    expect(error.message).toMatch(/^http:.*\(3 attempts\)$/)
  })

  it('is left alone after many failures in a row, whatever lies between them and a success', async () => {
    server.answer = (response) => reply(response, 500, { error: 'boom' })
    const endpoint = await open({ retries: 0 })
    const fails = (text: string) => failure(endpoint.ask(question(text)))
    for (let index = 0; index < 7; index++) expect(await fails(`a${index}`)).toBeInstanceOf(RequestError)
    server.answer = (response) => say(response, 'fine')
    await endpoint.ask(question('between'))
    server.answer = (response) => reply(response, 500, { error: 'boom' })
    for (let index = 0; index < 7; index++) expect(await fails(`b${index}`)).toBeInstanceOf(RequestError)
    const last = await fails('last')
    expect(last).not.toBeInstanceOf(RequestError)
    expect(last).toMatchObject({
      code: 'ERR_FIRE_ENDPOINT',
      message: expect.stringMatching(/8 .* in a row: .*500: boom/),
    })
  })

  it('that is not there ends the run', async () => {
    const endpoint = await open()
    await server.stop()
    const error = await failure(endpoint.ask(question('q')))
    server = await FakeServer.start(() => {})
    expect(error).not.toBeInstanceOf(RequestError)
    expect(error.message).toMatch(/ECONNREFUSED.*\(3 attempts\)/)
  })

  it.each([401, 402, 403, 404, 405, 307])('that answers %d ends the run', async (status) => {
    server.answer = (response) => reply(response, status, `no: ${key}`, { location: `http://127.0.0.1:9/?k=${key}` })
    const error = await failure((await open()).ask(question('q')))
    expect(error).not.toBeInstanceOf(RequestError)
    expect(error).toMatchObject({ code: 'ERR_FIRE_ENDPOINT', detail: { status }, hint: expect.any(String) })
    expect(JSON.stringify([error.message, error.stack, error, log])).not.toContain(key)
    expect(server.asked).toHaveLength(1)
  })

  it('that names such an answer under status 200 ends the run too', async () => {
    server.answer = (response) => reply(response, 200, { error: { code: 401, message: 'no' } })
    expect(await failure((await open()).ask(question('q')))).toMatchObject({ detail: { status: 401 } })
    expect(server.asked).toHaveLength(1)
  })

  it.each([400, 413, 422])('that answers %d turns one request down, however often', async (status) => {
    server.answer = (response) => reply(response, status, { error: { message: `too long for ${key}` } })
    const endpoint = await open()
    for (let index = 0; index < 10; index++) {
      const error = await failure(endpoint.ask(question(`q${index}`)))
      expect(error).toBeInstanceOf(RequestError)
      expect(error.message).toBe(`${server.url}/v1/chat/completions: the server answered ${status}: too long for ***`)
    }
    expect(server.asked).toHaveLength(10)
  })

  it.each<[string, unknown, string]>([
    ['null', { content: null }, 'finish: stop'],
    ['nothing', {}, 'finish: stop'],
    ['an empty text', { content: '' }, 'finish: stop'],
    ['blanks', { content: ' \n' }, 'finish: stop'],
    ['thoughts alone', { content: null, reasoning_content: 'Let me think' }, 'maxTokens'],
    ['parts without text', { content: [{ type: 'thinking', text: 'hm' }] }, 'finish: stop'],
  ])('that says %s has been paid, and has not answered', async (name, message, why) => {
    const finish = name.startsWith('thoughts') ? 'length' : 'stop'
    server.answer = (response) => reply(response, 200, { choices: [{ message, finish_reason: finish }], usage: tokens })
    const endpoint = await open({}, { cache })
    const error = await failure(endpoint.ask(question('q')))
    expect(error).toBeInstanceOf(EmptyReply)
    expect(error.message).toContain(why)
    await expect((await open({}, { cache })).ask(question('q'))).rejects.toBeInstanceOf(EmptyReply)
    expect([server.asked.length, endpoint.usage.promptTokens]).toEqual([1, 1000])
  })

  it('may answer in parts, of which the text is the answer', async () => {
    const parts = [
      { type: 'thinking', thinking: [{ type: 'text', text: 'hm' }] },
      { type: 'text', text: 'the left ' },
      { type: 'text', text: 'lung' },
    ]
    server.answer = (response) => say(response, parts)
    expect((await (await open()).ask(question('q'))).content).toBe('the left lung')
  })

  it.each([undefined, null, 'many', { prompt_tokens: 'many', completion_tokens: 1 }, { prompt_tokens: -1 }])(
    'may count in a strange way: %j',
    async (usage) => {
      server.answer = (response) => reply(response, 200, { choices: [{ message: { content: 'fine' } }], usage })
      const endpoint = await open()
      expect(await endpoint.ask(question('q'))).toMatchObject({ content: 'fine', finishReason: null, promptTokens: 0 })
      expect(server.asked).toHaveLength(1)
    },
  )

  const openai = 'is not supported with this model.'
  it.each<[field: string, status: number, words: string]>([
    ['max_tokens', 400, `Unsupported parameter: 'max_tokens' ${openai} Use 'max_completion_tokens' instead.`],
    ['temperature', 400, "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1)"],
    ['top_p', 400, `Unsupported parameter: 'top_p' ${openai}`],
    ['top_k', 422, '[{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}]'],
    ['seed', 422, '[{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]'],
    ['response_format', 400, 'response_format is not supported'],
    ['response_format', 422, 'Invalid schema for response_format'],
    ['response_format', 500, 'json_schema: not implemented'],
  ])('may not take %s (%d)', async (field, status, words) => {
    server.answer = (response, { body }) =>
      field in JSON.parse(body) ? reply(response, status, { error: { message: words } }) : say(response, 'fine')
    const endpoint = await open({ retries: 0, concurrency: 2 })
    const request = { topP: 1, topK: 5, seed: 1, schema: { name: 'n', schema: {} } }
    await Promise.all(['a', 'b', 'c'].map((text) => endpoint.ask(question(text, request))))
    expect(server.asked.length).toBeLessThanOrEqual(5)
    expect(log).toEqual([`m takes no ${field}; it is left out`])
    expect(Object.keys(sent(server.asked.length - 1))).toHaveLength(
      Object.keys(sent(0)).length - (field === 'max_tokens' ? 0 : 1),
    )
    expect(sent(server.asked.length - 1).max_completion_tokens).toBe(field === 'max_tokens' ? 1024 : undefined)
  })

  it('may take neither of several fields', async () => {
    server.answer = (response, { body }) => {
      const refused = ['max_tokens', 'temperature', 'top_p'].find((field) => field in JSON.parse(body))
      const words = { max_tokens: "use 'max_completion_tokens' instead", temperature: 'temperature is deprecated' }
      if (!refused) say(response, 'fine')
      else reply(response, 400, { error: { ...words, top_p: 'top_p is not allowed' }[refused] })
    }
    expect(await (await open({ retries: 0 })).ask(question('q', { topP: 1 }))).toMatchObject({ content: 'fine' })
    expect(server.asked).toHaveLength(4)
  })

  it.each([
    "'max_tokens' is too large: 1024. This model's maximum context length is 512 tokens",
    'temperature must be between 0 and 2',
    'The image is too large, supported are 4096 pixels',
  ])('that refuses a value keeps all fields: %s', async (words) => {
    server.answer = (response) => reply(response, 400, { error: { message: words } })
    await expect((await open()).ask(question('q'))).rejects.toThrow(words)
    expect(server.asked).toHaveLength(1)
  })

  it('cannot bring the key into a reply', async () => {
    server.answer = (response, { headers }) => say(response, `You sent ${headers.authorization}`)
    const endpoint = await open({}, { cache })
    expect((await endpoint.ask(question('q'))).content).toBe('You sent Bearer ***')
    const [name] = await readdir(cache)
    expect(await readFile(join(cache, name), 'utf8')).not.toContain(key)
  })

  it('gets no key with a line break in it, and nobody sees that key', async () => {
    vi.stubEnv('FIRE_TEST_KEY', 'sk-secret\n4711')
    const error = await failure((await open()).ask(question('q')))
    expect(JSON.stringify([error.message, error.stack, error, log])).not.toMatch(/sk-secret|4711/)
    expect(error).toBeInstanceOf(ConfigError)
    expect(server.asked).toHaveLength(0)
  })
})
