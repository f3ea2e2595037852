/** Sampling from a server: what is sent, order under concurrency, retries, and answers that are none. */
import { readFileSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import sharp from 'sharp'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { describeImage } from '../../src/data/images.js'
import type { Response, Sample } from '../../src/data/records.js'
import { ConfigError, EndpointError } from '../../src/errors.js'
import { failuresPath } from '../../src/sample/files.js'
import { sampleAnswers, sampleSettings, serverAnswerer } from '../../src/sample/index.js'
import { temporaryFolder, writeImage } from '../fakes/world.js'
import { makeSample, readLines, writeRecords } from './records.js'

interface Body {
  model: string
  seed: number
  max_tokens: number
  messages: { content: { type: string; text?: string; image_url?: { url: string } }[] }[]
}

interface Asked {
  body: Body
  headers: IncomingHttpHeaders
  url: string | undefined
  text: string
}

/** Answers a request, `attempt` being how often this question came before; returns false to let it be answered well. */
type Fault = (asked: Asked, attempt: number, response: ServerResponse) => boolean | Promise<boolean>

const dicom = JSON.parse(readFileSync(new URL('../data/fixtures/dicom.json', import.meta.url), 'utf8')) as {
  cases: { file: string }[]
}

let server: Server
let url: string
let seen: Asked[]
let fault: Fault
let running: number
let most: number
let root: string
let samples: Sample[]
let out: string

beforeEach(async () => {
  root = await temporaryFolder()
  out = join(root, 'responses.jsonl')
  seen = []
  fault = () => false
  running = most = 0
  server = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk) => {
      text += chunk
    })
    request.on('end', async () => {
      const body = JSON.parse(text) as Body
      const question = body.messages[0].content.at(-1)?.text ?? ''
      const asked = { body, headers: request.headers, url: request.url, text: question }
      const attempt = seen.filter((other) => other.text === question).length
      seen.push(asked)
      running += 1
      most = Math.max(most, running)
      if (!(await fault(asked, attempt, response))) answer(response, `Answer to ${question}`)
      running -= 1
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`
  const image = await writeImage(root, 'grey.png', 7)
  samples = Array.from({ length: 10 }, (_, index) =>
    makeSample(`s${index}`, { images: [image], question: `Q${index}?` }),
  )
  await writeRecords(join(root, 'samples.jsonl'), samples)
})

afterEach(async () => {
  vi.unstubAllEnvs()
  server.closeAllConnections()
  await new Promise((done) => server.close(done))
})

function reply(response: ServerResponse, status: number, body: string, headers: Record<string, string> = {}): true {
  response.writeHead(status, headers).end(body)
  return true
}

function answer(response: ServerResponse, content: unknown): true {
  return reply(response, 200, JSON.stringify({ choices: [{ message: { content }, finish_reason: 'stop' }] }))
}

function run(changes: object = {}, signal?: AbortSignal, cache?: string) {
  const settings = sampleSettings.parse({ samples: 's', out: 'o', seed: 1 })
  const usual = { url, model: 'served', timeout: 2, retries: 2, retryDelay: 0.001, concurrency: 3 }
  const answerer = serverAnswerer({ endpoint: { ...usual, ...changes }, imageRoot: root, cache }, settings)
  return sampleAnswers({ samples: join(root, 'samples.jsonl'), out, settings }, answerer, { signal })
}

const responses = (): Promise<Response[]> => readLines<Response>(out)
const failures = () => readLines<{ sampleId: string; code: string; reason: string }>(failuresPath(out))

describe('answers of a server', () => {
  it('sends prompt, image, seed and key, and keeps the order whatever comes first', async () => {
    fault = async ({ text }) => {
      await sleep(text === 'Q0?' ? 60 : 5)
      return false
    }
    vi.stubEnv('FIRE_TEST_KEY', 'secret')
    expect(await run({ keyEnv: 'FIRE_TEST_KEY' })).toMatchObject({ answers: 10, failed: 0 })
    expect((await responses()).map(({ text }) => text)).toEqual(samples.map(({ question }) => `Answer to ${question}`))
    expect(most).toBeGreaterThan(1)
    expect(most).toBeLessThanOrEqual(3)
    const { body, headers, url: path } = seen.find(({ text }) => text === 'Q4?') as Asked
    expect(path).toBe('/v1/chat/completions')
    expect(headers.authorization).toBe('Bearer secret')
    expect(body).toMatchObject({ model: 'served', max_tokens: 256, temperature: 0, top_p: 1 })
    expect(body).not.toHaveProperty('top_k')
    const [given] = (await responses()).slice(4)
    expect(given).toMatchObject({ model: 'served', adapter: null, seed: body.seed, tokens: [] })
    expect(given.sampling).toMatchObject({ finish: 'stop', endpoint: url })
    const sent = body.messages[0].content[0].image_url?.url ?? ''
    const picture = await sharp(Buffer.from(sent.replace('data:image/png;base64,', ''), 'base64')).metadata()
    expect(picture).toMatchObject({ format: 'png', width: 32, height: 32 })
  })

  it.each([
    ['ct.dcm', 'image/png'],
    ['plain.jpg', 'image/jpeg'],
    ['turned.jpg', 'image/png'],
    ['picture.webp', 'image/png'],
  ])('sends %s as every viewer shows it', async (name, mime) => {
    const grey = sharp({ create: { width: 40, height: 20, channels: 3, background: '#405060' } })
    if (name === 'plain.jpg') await grey.jpeg().toFile(join(root, name))
    if (name === 'turned.jpg') await grey.withMetadata({ orientation: 6 }).jpeg().toFile(join(root, name))
    if (name === 'picture.webp') await grey.webp({ lossless: true }).toFile(join(root, name))
    if (name === 'ct.dcm') await writeFile(join(root, name), Buffer.from(dicom.cases[0].file, 'base64'))
    const image = await describeImage(name, root)
    await writeRecords(join(root, 'samples.jsonl'), [makeSample('one', { images: [image] })])
    expect(await run()).toMatchObject({ answers: 1 })
    const sent = seen[0].body.messages[0].content[0].image_url?.url ?? ''
    expect(sent.startsWith(`data:${mime};base64,`)).toBe(true)
    const shown = await sharp(Buffer.from(sent.split(',')[1], 'base64')).metadata()
    expect([shown.width, shown.height]).toEqual([image.width, image.height])
  })

  it('gets over failures that pass', async () => {
    fault = ({ text }, attempt, response) => text === 'Q3?' && attempt < 2 && reply(response, 503, 'later')
    expect(await run()).toMatchObject({ answers: 10, failed: 0 })
    expect((await responses())[3].text).toBe('Answer to Q3?')
    expect(seen.filter(({ text }) => text === 'Q3?')).toHaveLength(3)
  })

  it.each<[string, string, Fault]>([
    [
      'a request it cannot take',
      'answered 400: image too large',
      (_, __, response) => reply(response, 400, '{"error": {"message": "image too large"}}'),
    ],
    [
      'another kind of JSON',
      'answered no completion: {"id": 1}',
      (_, __, response) => reply(response, 200, '{"id": 1}'),
    ],
    ['no text', 'a reply without text (finish: stop)', (_, __, response) => answer(response, null)],
    ['blanks', 'a reply without text', (_, __, response) => answer(response, ' \n')],
    ['an HTML page for ever', 'no completion: <html>', (_, __, response) => reply(response, 200, '<html>')],
    ['an error for ever', 'answered 500: boom', (_, __, response) => reply(response, 500, '{"error": "boom"}')],
  ])('goes on past a question that is answered with %s', async (_, reason, always) => {
    fault = (asked, attempt, response) => asked.text === 'Q3?' && always(asked, attempt, response)
    expect(await run()).toMatchObject({ answers: 9, failed: 1 })
    const [only] = await failures()
    expect(only).toMatchObject({ sampleId: 's3', code: 'ERR_FIRE_ENDPOINT' })
    expect(only.reason).toContain(reason)
  })

  it('stops where no question would fare better, keeps what it has and never shows the key', async () => {
    vi.stubEnv('FIRE_TEST_KEY', 'secret')
    fault = ({ text }, _, response) =>
      text === 'Q5?' && reply(response, 401, '{"error": {"message": "Incorrect key: secret"}}')
    const refused = await run({ keyEnv: 'FIRE_TEST_KEY', concurrency: 1 }).catch((error) => error)
    expect(refused).toBeInstanceOf(EndpointError)
    expect(refused.message).toContain('answered 401: Incorrect key: ***')
    fault = () => false
    expect(await run()).toMatchObject({ answers: 10, reused: 5 })
    server.closeAllConnections()
    await new Promise((done) => server.close(done))
    out = join(root, 'unreachable.jsonl')
    await expect(run()).rejects.toThrow(/ECONNREFUSED.*\(3 attempts\)/)
  })

  it('stops when its budget is spent, and goes on from there with a larger one', async () => {
    const usage = { prompt_tokens: 1000, completion_tokens: 10 }
    fault = ({ text }, _, response) => {
      const choices = [{ message: { content: `Answer to ${text}` }, finish_reason: 'stop' }]
      return reply(response, 200, JSON.stringify({ choices, usage }))
    }
    // An image counts as 65,536 tokens before it is sent: two fit.
    const poor = { priceIn: 1, budget: 0.067, concurrency: 1 }
    await expect(run(poor)).rejects.toThrow(
      /the budget ends: \$0\.00\d+ of \$0\.067 is spent, and the next request may cost \$0\.06/,
    )
    const asked = seen.length
    expect(asked).toBeGreaterThan(0)
    expect(asked).toBeLessThan(10)
    expect(await run({ ...poor, budget: 1 })).toMatchObject({ answers: 10, reused: asked, failed: 0 })
    expect(seen).toHaveLength(10)
  })

  it('pays for no reply twice, which then count against its budget', async () => {
    fault = ({ text }, _, response) => {
      const choices = [{ message: { content: `Answer to ${text}` }, finish_reason: 'stop' }]
      return reply(response, 200, JSON.stringify({ choices, usage: { prompt_tokens: 1000, completion_tokens: 10 } }))
    }
    const poor = { priceIn: 1, budget: 0.067, concurrency: 1 }
    const cache = join(root, 'cache')
    await expect(run(poor, undefined, cache)).rejects.toThrow('the budget ends')
    const asked = seen.length
    await rm(`${out}.part`)
    await expect(run(poor, undefined, cache)).rejects.toThrow('the budget ends')
    expect(seen).toHaveLength(asked)
  })

  it('refuses options that mean nothing', () => {
    expect(() => run({ url: 'localhost:8000' })).toThrow(ConfigError)
    expect(() => run({ url: url.replace('//', '//user:secret@') })).toThrow(/^(?!.*secret).*user and password/)
    expect(() => run({ timeout: Number.NaN })).toThrow(/timeout/)
    expect(() => run({ concurrency: 0 })).toThrow(/concurrency/)
  })

  it('waits at a signal for the requests under way, which are paid for, and sends no other', async () => {
    fault = async ({ text }) => {
      await sleep(text === 'Q0?' ? 0 : 1500)
      return false
    }
    const stop = new AbortController()
    setTimeout(() => stop.abort(), 200)
    const report = await run({}, stop.signal)
    expect(report.interrupted).toBe(true)
    expect(report.answers).toBeGreaterThan(1)
    expect(report.answers).toBeLessThan(report.total)
  })
})
