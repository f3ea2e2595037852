/** The client of language-model servers: how it takes what servers do. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, vi } from 'vitest'
import { EmptyReply, RequestError } from '../../src/endpoint/index.js'
import { ConfigError } from '../../src/errors.js'
import type { Answer } from '../fakes/server.js'
import { cache, failure, key, log, open, question, reply, say, sent, server, tokens, unless } from './world.js'

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
    ['thoughts alone', { content: null, reasoning_content: 'Let me think' }, 'its tokens were used up'],
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

  it.each<[string, object, string]>([
    ['a refusal', { content: null, refusal: 'I cannot help' }, 'it refuses: I cannot help'],
    ['a call of a tool', { content: null, tool_calls: [{ function: { name: 'look' } }] }, 'it calls a tool'],
    ['a call of a function', { content: '', function_call: { name: 'look' } }, 'it calls a tool'],
    ['thoughts', { content: '', reasoning: 'hm' }, 'only reasoning'],
    ['thoughts in its text', { content: '<think>hm</think>\n' }, 'finish: stop'],
    ['thoughts without end', { content: '<think>The left lung' }, 'finish: stop'],
  ])('that answers with %s says so', async (_, message, why) => {
    server.answer = (response) => reply(response, 200, { choices: [{ message, finish_reason: 'stop' }], usage: tokens })
    const error = await failure((await open()).ask(question('q')))
    expect(error).toBeInstanceOf(EmptyReply)
    expect(error.message).toMatch(new RegExp(`a reply without text \\(${why}\\)$`))
  })

  it('may withhold what it began to say', async () => {
    server.answer = (response) => say(response, 'The left', 'content_filter')
    await expect((await open()).ask(question('q'))).rejects.toThrow('withheld by a filter')
  })

  it('that says nothing and takes nothing for it is asked again by the next run', async () => {
    server.answer = unless(
      (number) => number === 1,
      (response) => say(response, '', 'stop', null),
    )
    await expect((await open({}, { cache })).ask(question('q'))).rejects.toBeInstanceOf(EmptyReply)
    expect(await (await open({}, { cache })).ask(question('q'))).toMatchObject({ content: 'fine' })
  })

  it.each<[string, unknown]>([
    ['a list of texts', ['the left ', 'lung']],
    ['parts of another name', [{ type: 'output_text', text: 'the left lung' }]],
    ['one part', { type: 'text', text: 'the left lung' }],
  ])('may answer in %s', async (_, content) => {
    server.answer = (response) => say(response, content)
    expect((await (await open()).ask(question('q'))).content).toBe('the left lung')
  })

  it.each<[string, object, number]>([
    ['a text of a number', { error: { message: 'no', code: '401' } }, 401],
    ['a status', { error: { message: 'no', status: 403 } }, 403],
    [
      'an error beside a choice',
      { error: { message: 'no', code: 402 }, choices: [{ message: { content: 'x' } }] },
      402,
    ],
    ['an error in a choice', { choices: [{ message: { content: 'x' }, error: { message: 'no', code: 401 } }] }, 401],
  ])('that fails under status 200 with %s ends the run', async (_, body, status) => {
    server.answer = (response) => reply(response, 200, body)
    expect(await failure((await open()).ask(question('q')))).toMatchObject({ detail: { status } })
    expect(server.asked).toHaveLength(1)
  })

  it('whose account is empty is not asked again, whatever number it gives that', async () => {
    const message = 'You exceeded your current quota, please check your plan and billing details.'
    server.answer = (response) => reply(response, 429, { error: { message } })
    expect(await failure((await open()).ask(question('q')))).toMatchObject({ hint: expect.stringContaining('money') })
    expect(server.asked).toHaveLength(1)
  })

  it('says how long it wants to be left alone, and is left alone for five minutes at most', async () => {
    server.answer = (response) => reply(response, 429, 'busy', { 'retry-after': '86400' })
    const stop = new AbortController()
    const asked = failure((await open({}, { signal: stop.signal })).ask(question('q')))
    while (log.length === 0) await sleep(5)
    stop.abort()
    await asked
    expect(log[0]).toMatch(/busy \(it asks for a pause of 86400 s\); trying again in 300 s$/)
  })

  describe('that streams', () => {
    const event = (delta: object, more: object = {}) =>
      `data: ${JSON.stringify({ choices: [{ index: 0, delta, ...more }] })}\n\n`
    const whole = [
      ': comment\n\n',
      event({ role: 'assistant', content: '' }),
      event({ content: 'the left ' }),
      event({ content: [{ type: 'text', text: 'lung' }] }),
      event({}, { finish_reason: 'stop' }),
      `data: ${JSON.stringify({ choices: [], usage: tokens })}\n\n`,
      'data: [DONE]\n\n',
    ]

    it.each<[string, string]>([
      ['as it should', whole.join('')],
      ['with other line ends', whole.join('').replaceAll('\n', '\r\n')],
      ['without a last event', whole.slice(0, -1).join('')],
      [
        'in one event',
        `event: message\ndata: ${JSON.stringify({ choices: [{ message: { content: 'the left lung' }, finish_reason: 'stop' }], usage: tokens })}\n\n`,
      ],
    ])('without being asked to is read %s', async (_, text) => {
      server.answer = (response) => reply(response, 200, text, { 'content-type': 'text/event-stream' })
      expect(await (await open({ retries: 0 })).ask(question('q'))).toEqual({
        ...{ content: 'the left lung', finishReason: 'stop', promptTokens: 1000, completionTokens: 100 },
        date: expect.any(String),
      })
    })

    it('is not waited for after its last event', async () => {
      server.answer = (response) => response.writeHead(200).write(whole.join(''))
      expect(await (await open({ retries: 0, timeout: 5 })).ask(question('q'))).toMatchObject({
        content: 'the left lung',
      })
    })

    it('only is asked to, and that is remembered', async () => {
      server.answer = (response, { body }) =>
        JSON.parse(body).stream
          ? reply(response, 200, whole.join(''))
          : reply(response, 400, { error: 'This model only supports streaming: set stream=true' })
      const endpoint = await open({ retries: 0, concurrency: 1 })
      for (const text of ['a', 'b']) await endpoint.ask(question(text))
      expect(server.asked.map(({ body }) => JSON.parse(body).stream)).toEqual([undefined, true, true])
      expect(log).toEqual(['m takes only streams; they are read'])
    })

    it.each<[string, string]>([
      ['breaks off', whole.slice(0, 3).join('')],
      ['ends in an error', `${whole.slice(0, 3).join('')}data: {"error": {"message": "gone"}}\n\n`],
      ['ends within an event', `${whole.slice(0, 3).join('')}data: {"choices": [{"del`],
    ])('and %s is no answer', async (_, text) => {
      server.answer = (response) => reply(response, 200, text)
      const error = await failure((await open({ retries: 0 }, { cache })).ask(question('q')))
      expect(error.message).toContain('answered no completion')
      expect(await readdir(cache)).toEqual([])
    })

    it('brings no key into a reply, in pieces either', async () => {
      server.answer = (response) =>
        reply(response, 200, [...[...key].map((content) => event({ content })), whole.at(-1)].join(''))
      expect((await (await open()).ask(question('q'))).content).toBe('***')
    })
  })

  const openai = 'is not supported with this model.'
  it.each<[field: string, status: number, words: string]>([
    ['max_tokens', 400, `Unsupported parameter: 'max_tokens' ${openai} Use 'max_completion_tokens' instead.`],
    ['max_tokens', 400, "Unsupported parameter: 'max_tokens' is unknown"],
    ['temperature', 422, '`temperature` must be strictly positive'],
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

  it.each([400, 422, 500, 501])('may stumble over a schema without a word (%d)', async (status) => {
    server.answer = (response, { body }) =>
      'response_format' in JSON.parse(body) ? reply(response, status, 'Internal error') : say(response, 'fine')
    const endpoint = await open({ retries: 0, concurrency: 1 })
    for (const text of ['a', 'b']) await endpoint.ask(question(text, { schema: { name: 'n', schema: {} } }))
    expect(server.asked).toHaveLength(3)
    expect(log).toEqual(['m takes no response_format; it is left out'])
  })

  it('that took a schema once does not fail for it', async () => {
    server.answer = unless(
      (number) => number > 1,
      (response) => reply(response, 500, 'Internal error'),
    )
    const endpoint = await open({ retries: 0 })
    const asked = (text: string) => endpoint.ask(question(text, { schema: { name: 'n', schema: {} } }))
    await asked('a')
    expect(await failure(asked('b'))).toBeInstanceOf(RequestError)
    expect(server.asked).toHaveLength(2)
  })

  it('that takes no temperature gives replies that say so, from the cache too', async () => {
    server.answer = (response, { body }) =>
      'temperature' in JSON.parse(body) ? reply(response, 400, 'temperature is not supported') : say(response, 'fine')
    for (const endpoint of [await open({}, { cache }), await open({}, { cache })]) {
      expect(await endpoint.ask(question('q'))).toMatchObject({ content: 'fine', leftOut: ['temperature'] })
      expect([...endpoint.leftOut]).toEqual(['temperature'])
    }
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
    const error = await failure(open())
    expect(JSON.stringify([error.message, error.stack, error, log])).not.toMatch(/sk-secret|4711/)
    expect(error).toBeInstanceOf(ConfigError)
    expect(server.asked).toHaveLength(0)
  })
})
