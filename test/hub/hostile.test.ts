/** A hub that is none, or a bad one: nothing hangs, nothing grows without end, and the token stays at home. */

import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HubError } from '../../src/errors.js'
import { pull } from '../../src/hub/index.js'
import { hub, options, out, refused, token, weights, weightsPart } from './model.js'
import { commits } from './server.js'

const access = () => ({ endpoint: hub.endpoint, token, offline: false, silenceMs: 150 })

describe('a download', () => {
  it('begins again where the server has no such range', async () => {
    await mkdir(out, { recursive: true })
    await writeFile(join(out, weightsPart()), Buffer.alloc(500_000))
    hub.fault = ({ store, range }, response) => {
      if (!store || range === undefined) return false
      response.writeHead(416, { 'content-range': 'bytes */400000' }).end()
      return true
    }
    await pull(options({ retry: { retries: 0, delayMs: 1 } }))
    expect(await readFile(join(out, weights))).toEqual(hub.files[weights].content)
  })

  it.each<[string, (response: import('node:http').ServerResponse) => void, RegExp]>([
    ['says nothing', () => {}, /no answer in 0.15 s \(4 attempts\)/],
    [
      'stops in the middle',
      (response) => response.writeHead(200, { 'content-length': 400_000 }).write('x'),
      /nothing more in 0.15 s \(4 attempts\)/,
    ],
    [
      'drips',
      (response) => {
        response.writeHead(200, { 'content-length': 400_000 })
        const timer = setInterval(() => (response.destroyed ? clearInterval(timer) : response.write('x')), 20)
      },
      /only \d+ bytes in 0.15 s \(4 attempts\)/,
    ],
  ])('is given up when the server %s', async (_, speak, message) => {
    hub.fault = ({ store, path }, response) => {
      if (!store || !path.endsWith(weights)) return false
      speak(response)
      return true
    }
    const error = await refused({ access: access() })
    expect(error).toBeInstanceOf(HubError)
    expect(error.message).toMatch(message)
  })
})

describe('a redirect', () => {
  let other: Server
  let place: string
  let heard: (string | undefined)[]

  beforeEach(async () => {
    heard = []
    other = createServer((request, response) => {
      heard.push(request.headers.authorization)
      response.writeHead(302, { location: request.url?.startsWith('/loop') ? '/loop' : `${hub.endpoint}/back` }).end()
    })
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    place = `http://127.0.0.1:${(other.address() as AddressInfo).port}`
  })
  afterEach(() => new Promise((resolve) => other.close(resolve)))

  const redirecting = (location: string) => {
    hub.fault = ({ path, store }, response) => {
      if (store || !path.includes('/resolve/')) return false
      response.writeHead(307, { location }).end()
      return true
    }
    return refused({ access: { ...access(), silenceMs: 20_000 } })
  }

  it('takes the token to no other host, and ends', async () => {
    expect((await redirecting(`${place}/loop`)).message).toMatch(/more than 8 redirects$/)
    expect(heard.length).toBeGreaterThan(7)
    expect(heard.every((authorization) => authorization === undefined)).toBe(true)
  })

  it.each(['file:///etc/passwd', 'http://me:secret@127.0.0.1/', 'gopher://x', '::'])(
    'to %s is not followed',
    async (to) => {
      const error = await redirecting(to)
      expect(error).toBeInstanceOf(HubError)
      expect(error.message).not.toContain('secret')
    },
  )
})

describe('a listing', () => {
  const listing = (answer: (response: import('node:http').ServerResponse, url: string) => void) => {
    hub.fault = ({ path }, response) => {
      if (!path.includes('/tree/')) return false
      answer(response, path)
      return true
    }
    return refused({ access: { ...access(), silenceMs: 20_000 } })
  }

  it('that never ends is left', async () => {
    let page = 0
    const error = await listing((response) => {
      const next = `${hub.endpoint}/api/models/clinic/tiny-vlm/tree/${commits.main}?cursor=${++page}`
      response.writeHead(200, { link: `<${next}>; rel="next"` }).end('[]')
    })
    expect(error.message).toContain('more than 1000 pages')
    expect(page).toBeLessThan(1010)
  })

  it('that comes back to a page is left', async () => {
    let pages = 0
    const error = await listing((response, path) => {
      pages += 1
      response.writeHead(200, { link: `<${hub.endpoint}${path}>; rel="next"` }).end('[]')
    })
    expect(error.message).toContain('one twice')
    expect(pages).toBeLessThan(3)
  })

  it.each<[string, string]>([
    ['files', `[${Array.from({ length: 100_001 }, () => '{"type":"directory"}').join()}]`],
    ['bytes', `["${'x'.repeat(2 ** 25)}"]`],
  ])('of too many %s is left', async (what, text) => {
    const error = await listing((response) => response.end(text))
    expect(error).toBeInstanceOf(HubError)
    expect(error.message).toContain(what)
  })
})
