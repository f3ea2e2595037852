/** The segmentation client against a service that keeps the contract, and one that does everything wrong. */
import { readdir } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Segmenter, type SegmenterOptions } from '../../src/corrupt/segmenter.js'
import { SegmenterError } from '../../src/errors.js'
import { temporaryFolder } from '../fakes/world.js'
import { answerTo, FakeSegmenter, type Fault, seen } from './service.js'

const [width, height] = [24, 16]
const image = {
  sha256: 'a'.repeat(64),
  width,
  height,
  png: () =>
    sharp(Buffer.alloc(width * height * 3, 90), { raw: { width, height, channels: 3 } })
      .png()
      .toBuffer(),
}

let service: FakeSegmenter
let cache: string
let retries: string[]

beforeEach(async () => {
  service = await FakeSegmenter.start()
  cache = join(await temporaryFolder(), 'cache')
  retries = []
})
afterEach(() => service.stop())

function client(more: Partial<SegmenterOptions> = {}): Segmenter {
  return new Segmenter({
    url: service.url,
    threshold: 0.5,
    nmsIou: 0.4,
    timeoutMs: 5000,
    retries: 2,
    delayMs: 1,
    cache,
    onRetry: (message) => retries.push(message),
    ...more,
  })
}

/** Only the first `times` requests fail. */
const first =
  (times: number, fault: Fault): Fault =>
  (asked, response, attempt) =>
    attempt <= times && fault(asked, response, attempt)

describe('a segmentation service', () => {
  it('is asked once for an image and concept, and its answer is kept', async () => {
    const segmenter = client({ token: 'sesame' })
    const { mask, detections } = await segmenter.segment(image, 'left lung')
    // The stub's second detection covers everything with a score below the threshold.
    expect(detections).toBe(1)
    expect(mask.inside).toEqual(seen('left lung', width, height))
    expect(service.asked).toEqual([
      {
        image: expect.stringMatching(/^data:image\/png;base64,/),
        prompts: ['left lung'],
        threshold: 0.5,
        nms_iou: 0.4,
      },
    ])
    expect(service.authorization).toEqual(['Bearer sesame'])
    const again = client()
    expect((await again.segment(image, 'left lung')).mask.inside).toEqual(mask.inside)
    expect([service.asked.length, again.requests]).toEqual([1, 0])
    await again.segment(image, 'liver')
    await again.segment({ ...image, sha256: 'b'.repeat(64) }, 'liver')
    await client({ threshold: 0.6 }).segment(image, 'liver')
    expect(service.asked).toHaveLength(4)
  })

  it('may see nothing', async () => {
    expect(await client().segment(image, 'no such thing')).toMatchObject({ detections: 0 })
  })

  it.each<[string, Fault, string]>([
    ['429', (_, response) => !!response.writeHead(429, { 'retry-after': '0' }).end(), 'too many requests'],
    ['503 with a page', (_, response) => !!response.writeHead(503).end('<html>'), 'answered 503'],
    ['JSON that breaks off', (_, response) => !!response.writeHead(200).end('{"model": "x", "resul'), 'not JSON'],
    ['an empty answer', (_, response) => !!response.writeHead(200).end(), 'not JSON'],
    ['a closed connection', (_, response) => !response.socket?.destroy() || true, 'v1/segment'],
    [
      'a body that breaks off',
      (_, response) => {
        response.writeHead(200, { 'content-length': '1000' }).write('{"model":')
        setTimeout(() => response.socket?.destroy(), 20)
        return true
      },
      'v1/segment',
    ],
  ])('is asked again after %s', async (_, fault, message) => {
    service.fault = first(2, fault)
    expect((await client().segment(image, 'liver')).detections).toBe(1)
    expect(retries).toHaveLength(2)
    expect(retries[0]).toContain(message)

    service.fault = fault
    const stays = client().segment(image, 'spleen')
    await expect(stays).rejects.toBeInstanceOf(SegmenterError)
    await expect(stays).rejects.toThrow('3 attempts')
    expect(await readdir(cache)).toHaveLength(1)
  })

  it('waits as long as it is asked to', async () => {
    service.fault = first(1, (_, response) => !!response.writeHead(429, { 'retry-after': '1' }).end())
    const start = performance.now()
    await client().segment(image, 'liver')
    expect(performance.now() - start).toBeGreaterThan(990)
  })

  it('is given up when it stalls, before and inside an answer', async () => {
    service.fault = () => true
    await expect(client({ timeoutMs: 500, retries: 1 }).segment(image, 'liver')).rejects.toThrow('no answer in 0.5 s')
    service.fault = (_, response) => response.writeHead(200).write('{') || true
    await expect(client({ timeoutMs: 500, retries: 1 }).segment(image, 'liver')).rejects.toThrow('did not end in 0.5 s')
    expect(service.asked).toHaveLength(4)
  })

  it('is left when the run is stopped', async () => {
    service.fault = () => true
    const controller = new AbortController()
    const asked = client({ signal: controller.signal }).segment(image, 'liver')
    const reason = new Error('enough')
    setTimeout(() => controller.abort(reason), 50)
    await expect(asked).rejects.toMatchObject({ name: 'AbortedError', cause: reason })
  })

  it.each<[string, Fault, string]>([
    [
      'a page',
      (_, response) => !!response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Sign in'),
      'not JSON: <html>Sign in',
    ],
    ['401', (_, response) => !!response.writeHead(401).end('who?'), 'answered 401'],
    [
      'a redirect',
      (_, response) => !!response.writeHead(307, { location: 'http://elsewhere.test' }).end(),
      'elsewhere',
    ],
  ])('is not asked again after %s', async (_, fault, message) => {
    service.fault = fault
    const asked = client().segment(image, 'liver')
    await expect(asked).rejects.toBeInstanceOf(SegmenterError)
    await expect(asked).rejects.toThrow(message)
    expect(service.asked).toHaveLength(1)
  })

  type Answer = Awaited<ReturnType<typeof answerTo>>
  it.each<[string, (answer: Answer) => unknown, string]>([
    ['no results', ({ model }) => ({ model }), 'results'],
    ['a list', (answer) => [answer], 'outside the contract'],
    ['another size', (answer) => ({ ...answer, width: 512 }), '512 x 16, the image is 24 x 16'],
    ['another prompt', (answer) => ({ ...answer, results: [{ ...answer.results[0], prompt: 'x' }] }), 'no result has'],
    ['a score above 1', (answer) => edited(answer, { score: 3 }), 'score'],
    [
      'a mask of another size',
      (answer) => edited(answer, { rle: { size: [24, 16], counts: [384] } }),
      '16 x 24 for 24 x 16',
    ],
    ['a mask that is not filled', (answer) => edited(answer, { rle: { size: [16, 24], counts: [3] } }), '3 pixels'],
    ['a mask that is none', (answer) => edited(answer, { rle: { size: [16, 24], counts: '\u0000' } }), 'foreign'],
  ])('is refused with %s', async (_, edit, message) => {
    service.fault = (asked, response) => {
      void answerTo(asked).then((answer) => response.writeHead(200).end(JSON.stringify(edit(answer))))
      return true
    }
    const asked = client().segment(image, 'liver')
    await expect(asked).rejects.toThrow(message)
    await expect(asked).rejects.toBeInstanceOf(SegmenterError)
    expect(service.asked).toHaveLength(1)
    expect(await readdir(cache).catch(() => [])).toEqual([])
  })

  it('may be somewhere else, or nowhere', async () => {
    expect((await client({ url: `${service.url}/v1/segment/` }).segment(image, 'liver')).detections).toBe(1)
    const free = createServer()
    const port = await new Promise<number>((resolve) =>
      free.listen(0, '127.0.0.1', () => resolve((free.address() as { port: number }).port)),
    )
    await new Promise((resolve) => free.close(resolve))
    await expect(client({ url: `http://127.0.0.1:${port}` }).segment(image, 'spleen')).rejects.toThrow('ECONNREFUSED')
    expect(() => client({ url: 'ftp://here' })).toThrow('http://')
    expect(() => client({ url: 'http://me:secret@here' })).toThrow(/^(?!.*secret).*password$/)
  })
})

function edited(answer: Awaited<ReturnType<typeof answerTo>>, detection: object) {
  const [{ prompt, detections }] = answer.results
  return { ...answer, results: [{ prompt, detections: [{ ...detections[0], ...detection }] }] }
}
