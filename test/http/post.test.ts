/** The transport of every service: what it is bounded by, what it never does, and what it never says. */
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { SegmenterError } from '../../src/errors.js'
import { TransientError } from '../../src/http/failure.js'
import { type PostOptions, postJson } from '../../src/http/post.js'
import { passingStatus, retrying } from '../../src/http/retry.js'
import { below, isAddress, keyFrom, printable } from '../../src/http/service.js'
import { type Answer, FakeServer } from '../fakes/server.js'

const key = 'sk-test/4711"x'
let server: FakeServer

beforeEach(async () => {
  server = await FakeServer.start((response) => response.end('{"fine": true}'))
})
afterEach(() => server.stop())

function post(options: Partial<PostOptions> = {}) {
  const usual = { what: 'service', key, timeoutMs: 5000, maxBytes: 1000, Failure: SegmenterError }
  return postJson(new URL(`${server.url}/ask`), { question: 1 }, { ...usual, ...options })
}

const failure = (asked: Promise<unknown>): Promise<Error> =>
  asked.then(
    () => expect.fail('it went well'),
    (error) => error,
  )

/** Everything of an error that somebody may print. */
const printed = (error: Error): string =>
  JSON.stringify([error.message, error.stack, error, String((error.cause as Error | undefined)?.stack)])

describe('a question to a service', () => {
  it('goes out as JSON with the key, and its answer comes back whatever its status', async () => {
    server.answer = (response) => response.writeHead(418, { 'x-kind': 'pot' }).end('{"error": {"message": "short"}}')
    const { status, headers, json, said } = await post({ keyHeaders: ['authorization', 'x-key'] })
    expect([status, headers.get('x-kind'), json, said]).toEqual([
      418,
      'pot',
      { error: { message: 'short' } },
      ': short',
    ])
    const [{ path, headers: sent, body }] = server.asked
    expect([path, sent.authorization, sent['content-type'], sent['x-key'], body]).toEqual([
      ...['/ask', `Bearer ${key}`, 'application/json', key, '{"question":1}'],
    ])
    await post({ key: undefined })
    expect(server.asked[1].headers).not.toHaveProperty('authorization')
  })

  it.each<[string, string]>([
    ['in its own form', JSON.stringify({ error: { message: `no such key: ${key}` } })],
    ['as a plain text', `no such key: ${key}`],
    ['in JSON that says nothing of errors', JSON.stringify({ detail: `no such key: ${key}` })],
    ['in JSON that escapes slashes', JSON.stringify({ detail: key }).replaceAll('/', '\\/')],
    ['in JSON that escapes everything', `{"detail": "\\u0073k-test\\u002f4711\\"x"}`],
    ['in an address', `<a href="/?key=${encodeURIComponent(key)}">`],
    ['where a message of ours is cut', `${'x'.repeat(195)}${key}`],
  ])('has no word of the key in what the server says %s', async (_, text) => {
    server.answer = (response) => response.writeHead(400).end(text)
    const { json, said } = await post()
    expect(said).toContain('***')
    expect(JSON.stringify([json, said])).not.toMatch(/4711|sk-test/)
  })

  it('takes a key out of replies too, but no placeholder that is a word of them', async () => {
    server.answer = (response, { headers }) => response.end(JSON.stringify({ heard: [headers.authorization] }))
    expect((await post()).json).toEqual({ heard: ['Bearer ***'] })
    expect((await post({ key: 'none' })).json).toEqual({ heard: ['Bearer none'] })
    server.answer = (response) => response.writeHead(401).end('none is no key')
    expect((await post({ key: 'none' })).said).toBe(': *** is no key')
  })

  it.each(['line\nbreak-4711', 'carriage\r4711', 'spa ce-4711', 'Schlüssel-4711', 'zero\u00004711'])(
    'is not asked with a key that no header can carry (%j), and does not print it',
    async (bad) => {
      const error = await failure(post({ key: bad }))
      expect(error).toMatchObject({ code: 'ERR_FIRE_CONFIG' })
      expect(printed(error)).not.toContain('4711')
      expect(server.asked).toHaveLength(0)
    },
  )

  it('follows no redirect, and does not print a key that is in it', async () => {
    const other = await FakeServer.start((response) => response.end('{}'))
    for (const status of [301, 302, 303, 307, 308]) {
      const location = `${other.url}/${encodeURIComponent(key)}?key=${encodeURIComponent(key)}`
      server.answer = (response) => response.writeHead(status, { location }).end()
      const error = await failure(post())
      expect(error).toBeInstanceOf(SegmenterError)
      expect(error).toMatchObject({
        detail: { status },
        message: `service: it redirects to ${other.url}/***, which is not followed`,
      })
    }
    expect(other.asked).toHaveLength(0)
    await other.stop()
  })

  it('takes no answer that is longer than allowed, however well it is packed', async () => {
    server.answer = (response) => response.end(`"${'x'.repeat(998)}"`)
    expect((await post()).json).toHaveLength(998)
    server.answer = (response) => response.end(`"${'x'.repeat(999)}"`)
    expect(await failure(post())).toMatchObject({ message: 'service: an answer of more than 1000 bytes' })
    const packed = gzipSync(Buffer.alloc(2 ** 24, 'x'))
    server.answer = (response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(packed)
    expect(await failure(post({ maxBytes: 2 ** 20 }))).toBeInstanceOf(TransientError)
    // A server that never stops talking.
    server.answer = (response) => {
      const talk = () => !response.destroyed && response.write('x'.repeat(100), () => setImmediate(talk))
      talk()
    }
    expect(await failure(post())).toBeInstanceOf(TransientError)
  })

  it.each<[string, Answer, string]>([
    ['silence', () => {}, 'no answer'],
    ['a beginning without an end', (response) => response.writeHead(200).write('{'), 'the answer did not end'],
  ])('waits no longer than allowed for %s', async (_, answer, words) => {
    server.answer = answer
    const error = await failure(post({ timeoutMs: 500 }))
    expect(error).toMatchObject({ message: `service: ${words} in 0.5 s` })
    expect(error).toBeInstanceOf(TransientError)
  })

  it.each<[string, Answer]>([
    ['closes the connection', (response) => response.destroy()],
    [
      'cuts its answer',
      (response) => {
        response.writeHead(200, { 'content-length': '100' }).write('{"half":')
        setTimeout(() => response.destroy(), 20)
      },
    ],
    [
      'announces more than it sends',
      (response) => response.writeHead(200, { 'content-length': '500' }).end('{"half":'),
    ],
  ])('may go well the next time when the server %s', async (_, answer) => {
    server.answer = answer
    expect(await failure(post({ timeoutMs: 300 }))).toBeInstanceOf(TransientError)
  })

  it('is no JSON when it is cut where the server says that it ends', async () => {
    server.answer = (response) => response.end('{"half":')
    expect(await post()).toMatchObject({ json: undefined, said: ': {"half":' })
  })

  it('fails for good where there is no such server, and passes where there is none now', async () => {
    const gone = new URL(server.url)
    const { ...options } = { what: 'gone', timeoutMs: 5000, maxBytes: 10, Failure: SegmenterError }
    await server.stop()
    expect(await failure(postJson(gone, {}, options))).toMatchObject({
      detail: { systemCode: 'ECONNREFUSED' },
      retryAfterMs: 0,
    })
    expect(await failure(postJson(new URL('http://no.such.host.invalid'), {}, options))).toMatchObject({
      message: 'gone: there is no such host (ENOTFOUND)',
    })
    expect(await failure(postJson(new URL('http://127.0.0.1:1'), {}, options))).toBeInstanceOf(SegmenterError)
    server = await FakeServer.start(() => {})
  })

  it('ends with the reason of its signal', async () => {
    server.answer = () => {}
    const stop = new AbortController()
    setTimeout(() => stop.abort(new Error('enough')), 30)
    expect(await failure(post({ signal: stop.signal }))).toMatchObject({
      code: 'ERR_FIRE_ABORTED',
      cause: { message: 'enough' },
    })
  })

  it('brings no control characters of a server to the terminal', async () => {
    server.answer = (response) => response.writeHead(400).end('red\u001b[31m\n\u009b2J \u202etxt')
    expect((await post()).said).toBe(': red [31m 2J txt')
  })
})

describe('what may pass', () => {
  const status = (status: number, wait?: string) =>
    passingStatus(
      { status, headers: new Headers(wait === undefined ? {} : { 'retry-after': wait }) },
      'service',
      ': busy',
    )

  it('is a busy or broken server, with the pause that it asks for, up to five minutes', () => {
    expect([200, 301, 400, 401, 404, 413, 422].map((code) => status(code))).toEqual(new Array(7).fill(undefined))
    expect([408, 429, 500, 502, 503, 529].map((code) => status(code)?.retryAfterMs)).toEqual(new Array(6).fill(0))
    expect(status(503)?.message).toBe('service: the server answered 503: busy')
    expect(status(429, '7')).toMatchObject({ message: 'service: too many requests: busy', retryAfterMs: 7000 })
    expect(['0.5', '-3', 'soon', '86400'].map((wait) => status(429, wait)?.retryAfterMs)).toEqual([500, 0, 0, 300_000])
    const inTenSeconds = new Date(Date.now() + 10_000).toUTCString()
    expect(status(503, inTenSeconds)?.retryAfterMs).toBeGreaterThan(8000)
    expect(status(503, new Date(0).toUTCString())?.retryAfterMs).toBe(0)
  })

  it('is tried again, says how long it waits, and gives up in the words of the caller', async () => {
    const said: string[] = []
    let attempts = 0
    const options = { retries: 2, delayMs: 1, onRetry: (line: string) => said.push(line) }
    const giveUp = (message: string, { detail }: TransientError) => new SegmenterError(message, { detail })
    const task = async (): Promise<string> => {
      attempts += 1
      throw new TransientError('busy', { status: 503 }, { retryAfterMs: attempts === 1 ? 20 : 0 })
    }
    const error = await failure(retrying(task, { ...options, giveUp }))
    expect(error).toBeInstanceOf(SegmenterError)
    expect(error).toMatchObject({ message: 'busy (3 attempts)', detail: { status: 503 } })
    expect(said).toEqual(['busy; trying again in 1 s', 'busy; trying again'])
    const broken = new RangeError('broken')
    attempts = 0
    const breaks = () => Promise.reject(++attempts === 2 ? broken : new TransientError('busy'))
    expect(await failure(retrying(breaks, { ...options, giveUp }))).toBe(broken)
  })

  it('is not waited for after an abort', async () => {
    const stop = new AbortController()
    const started = performance.now()
    const task = () => Promise.reject(new TransientError('busy', {}, { retryAfterMs: 60_000 }))
    setTimeout(() => stop.abort(), 30)
    const giveUp = (message: string) => new Error(message)
    expect(await failure(retrying(task, { retries: 3, delayMs: 1, signal: stop.signal, giveUp }))).toMatchObject({
      name: 'AbortedError',
      cause: stop.signal.reason,
    })
    expect(performance.now() - started).toBeLessThan(5000)
  })
})

describe('a service', () => {
  it.each([
    ['http://localhost:8000/v1', true],
    ['https://host/v1?api-version=2', true],
    ['localhost:8000', false],
    ['ftp://host', false],
    ['', false],
    ['http://', false],
    ['http://user@host', false],
    ['http://user:password@host', false],
    ['http://:password@host', false],
  ])('may be at %j: %s', (text, may) => {
    expect(isAddress(text)).toBe(may)
  })

  it('keeps the query of its address when a path is added, and does not show it', () => {
    expect(below('http://host/v1', 'ask').href).toBe('http://host/v1/ask')
    expect(below('http://host//', 'ask').href).toBe('http://host/ask')
    const azure = below('https://host/openai/deployments/d/?api-version=2024-10-21&key=secret', 'chat/completions')
    expect(azure.href).toBe('https://host/openai/deployments/d/chat/completions?api-version=2024-10-21&key=secret')
    expect(printable(azure)).toBe('https://host/openai/deployments/d/chat/completions')
  })

  it('has its key in a variable, which must then hold one', () => {
    process.env.FIRE_TEST_KEY = ' secret\n'
    expect(keyFrom('FIRE_TEST_KEY')).toBe('secret')
    process.env.FIRE_TEST_KEY = ' '
    expect(() => keyFrom('FIRE_TEST_KEY')).toThrow('The variable FIRE_TEST_KEY holds no key')
    process.env.FIRE_TEST_KEY = 'sk\n4711'
    expect(() => keyFrom('FIRE_TEST_KEY')).toThrow(/^(?!.*4711).*line break/s)
    expect(() => keyFrom('sk-4711')).toThrow(/^(?!.*4711).*holds no key/)
    expect(() => keyFrom('hf_4711')).toThrow(/^(?!.*4711).*holds no key/)
    delete process.env.FIRE_TEST_KEY
    expect(() => keyFrom('FIRE_TEST_KEY')).toThrow('FIRE_TEST_KEY')
    expect(keyFrom(null)).toBeUndefined()
  })
})
