/** Proxies of the environment. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ConfigError, SegmenterError } from '../../src/errors.js'
import { postJson } from '../../src/http/post.js'
import { proxyFor } from '../../src/http/proxy.js'
import { redact } from '../../src/secrets.js'

const names = ['http_proxy', 'https_proxy', 'all_proxy', 'no_proxy']

beforeEach(() => {
  for (const name of names.flatMap((name) => [name, name.toUpperCase()])) vi.stubEnv(name, undefined)
})
afterEach(() => vi.unstubAllEnvs())

const post = (address: string) =>
  postJson(
    new URL(address),
    { question: 1 },
    { what: 'service', timeoutMs: 5000, maxBytes: 1000, Failure: SegmenterError },
  )

const failure = (asked: Promise<unknown>): Promise<Error> =>
  asked.then(
    () => expect.fail('it went well'),
    (error) => error,
  )

describe('the proxy for an address', () => {
  it('is that of its protocol, in small letters first', () => {
    expect(proxyFor(new URL('http://host'))).toBeUndefined()
    vi.stubEnv('ALL_PROXY', 'http://all:1')
    vi.stubEnv('HTTP_PROXY', 'proxy:3128')
    vi.stubEnv('https_proxy', 'http://small:2')
    vi.stubEnv('HTTPS_PROXY', 'http://large:3')
    expect(proxyFor(new URL('http://host'))).toBe('http://proxy:3128')
    expect(proxyFor(new URL('https://host'))).toBe('http://small:2')
    vi.stubEnv('HTTP_PROXY', undefined)
    expect(proxyFor(new URL('http://host'))).toBe('http://all:1')
  })

  it.each<[string, string, boolean]>([
    ['*', 'http://host', false],
    ['host', 'http://host', false],
    ['host', 'http://other.host', false],
    ['host', 'http://otherhost', true],
    ['.host', 'http://a.host', false],
    ['*.host', 'http://a.host:8000', false],
    ['host:8000', 'http://host:8000', false],
    ['host:8000', 'http://host', true],
    ['host:443', 'https://host', false],
    ['a, HOST ,b', 'http://host', false],
    ['10.0.0.0/8', 'http://10.1.2.3:8000', false],
    ['10.0.0.0/8', 'http://11.1.2.3', true],
    ['10.0.0.0/99', 'http://11.1.2.3', true],
    ['10.0.0/8', 'http://host', true],
    ['::1', 'http://[::1]:8000', false],
    ['fd00::/8', 'http://[fd00::1]', false],
    ['127.0.0.1,localhost', 'http://localhost:8000', false],
    ['', 'http://host', true],
  ])('NO_PROXY=%j, %s: %s', (exceptions, address, isUsed) => {
    vi.stubEnv('ALL_PROXY', 'http://proxy:1')
    vi.stubEnv('NO_PROXY', exceptions)
    expect(proxyFor(new URL(address)) !== undefined).toBe(isUsed)
  })
})

describe('a request through a proxy', () => {
  let proxy: Server
  let asked: { method?: string; url?: string; authorization?: string }[]
  let status: number
  let place: string

  beforeEach(async () => {
    asked = []
    status = 200
    proxy = createServer((request, response) => {
      asked.push({ method: request.method, url: request.url, authorization: request.headers['proxy-authorization'] })
      response.writeHead(status).end('{"through": "proxy"}')
    })
    proxy.on('connect', ({ method, url }, socket) => {
      asked.push({ method, url })
      socket.end(`HTTP/1.1 ${status} So\r\n\r\n`)
    })
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
    place = `127.0.0.1:${(proxy.address() as AddressInfo).port}`
  })
  afterEach(() => new Promise((resolve) => proxy.close(resolve)))

  it('has the whole address in it, and the password where it belongs', async () => {
    vi.stubEnv('HTTP_PROXY', `http://me:pass-4711@${place}`)
    expect((await post('http://vllm.invalid:8000/v1/ask')).json).toEqual({ through: 'proxy' })
    const authorization = `Basic ${Buffer.from('me:pass-4711').toString('base64')}`
    expect(asked).toEqual([{ method: 'POST', url: 'http://vllm.invalid:8000/v1/ask', authorization }])
    expect(redact(`pass-4711, ${authorization}`)).toBe('***, Basic ***')
  })

  it('asks for a tunnel to a host with TLS, and says when there is none', async () => {
    vi.stubEnv('HTTPS_PROXY', `http://${place}`)
    for (status of [403, 407, 502]) {
      const error = await failure(post('https://vllm.invalid/v1'))
      expect(error.message).toContain(`through the proxy ${place}`)
      expect(error.message).toContain(`the proxy answered ${status}`)
    }
    expect(asked[0]).toEqual({ method: 'CONNECT', url: 'vllm.invalid:443' })
  })

  it('names the proxy that is not there, and none that is no address', async () => {
    vi.stubEnv('HTTP_PROXY', 'http://me:pass-4711@127.0.0.1:9')
    const gone = await failure(post('http://vllm.invalid/v1'))
    expect(gone.message).toBe('service: nothing listens there (ECONNREFUSED), through the proxy 127.0.0.1:9')
    vi.stubEnv('HTTP_PROXY', 'http://me:%zz-4711@host')
    const misspelt = await failure(post('http://vllm.invalid/v1'))
    vi.stubEnv('HTTP_PROXY', 'socks5://me:pass-4711@host')
    const strange = await failure(post('http://vllm.invalid/v1'))
    expect(strange).toBeInstanceOf(ConfigError)
    expect(JSON.stringify([strange.message, strange.stack, misspelt.stack, gone.message])).not.toContain('4711')
  })
})
