/** The client of language-model servers: what it sends and what it pays. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { BudgetError, type EndpointInput, endpointSettings, imagePart } from '../../src/endpoint/index.js'
import { ConfigError } from '../../src/errors.js'
import { cache, failure, key, log, open, question, reply, say, sent, server, tokens, unless } from './world.js'

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
      date: expect.stringMatching(/^\d{4}-\d\d-\d\d$/),
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
    expect(third - first).toBeGreaterThan(178)
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

  it('under way at a stop is waited for and kept; those that wait are not sent', async () => {
    const answers: (() => void)[] = []
    server.answer = (response) => void answers.push(() => say(response, 'late'))
    const stop = new AbortController()
    const endpoint = await open({ concurrency: 1 }, { stop: stop.signal, cache })
    const [first, second] = [endpoint.ask(question('a')), failure(endpoint.ask(question('b')))]
    while (answers.length === 0) await sleep(1)
    stop.abort()
    setTimeout(answers[0], 100)
    await endpoint.settle()
    expect((await first).content).toBe('late')
    expect((await second).code).toBe('ERR_FIRE_ABORTED')
    expect(server.asked).toHaveLength(1)
    expect(await readdir(cache)).toHaveLength(1)
  })

  it('ends at a signal', async () => {
    server.answer = () => {}
    const stop = new AbortController()
    const endpoint = await open({ concurrency: 1 }, { signal: stop.signal })
    const asked = [failure(endpoint.ask(question('a'))), failure(endpoint.ask(question('b')))]
    setTimeout(() => stop.abort(), 50)
    for (const error of await Promise.all(asked)) expect(error.code).toBe('ERR_FIRE_ABORTED')
    expect(server.asked).toHaveLength(1)
  })
})
