/** The client of language-model servers: how it takes what servers do. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
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
    const error = await failure(open())
    expect(JSON.stringify([error.message, error.stack, error, log])).not.toMatch(/sk-secret|4711/)
    expect(error).toBeInstanceOf(ConfigError)
    expect(server.asked).toHaveLength(0)
  })
})
