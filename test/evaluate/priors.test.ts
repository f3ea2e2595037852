/** Systems without the image: what they are shown, how they are judged, and what may be said of a gain. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import type { Sample } from '../../src/data/records.js'
import { blindSamples } from '../../src/evaluate/blind.js'
import { type EvaluationRequest, evaluate } from '../../src/evaluate/evaluation.js'
import { renderEvaluation } from '../../src/evaluate/page/render.js'
import type { PriorRecord } from '../../src/evaluate/records.js'
import { rejudge } from '../../src/evaluate/rejudge.js'
import { sampleSettings } from '../../src/sample/index.js'
import { reply, say, server } from '../endpoint/world.js'
import { temporaryFolder } from '../fakes/world.js'
import { makeSample, readLines, writePng, writeRecords } from '../sample/records.js'

let folder: string
let samples: Sample[]
/** Numbers of images by the hash of the PNG that a server is shown. */
let shown: Map<string, number>

const images = 25

beforeEach(async () => {
  folder = await temporaryFolder()
  const refs: Sample['images'] = []
  for (let i = 0; i < images; i++) {
    const rgb = Uint8Array.from({ length: 12 * 12 * 3 }, (_, at) => (at * (i + 5)) % 253)
    refs.push(await writePng(folder, `${i}.png`, { width: 12, height: 12, rgb }))
  }
  shown = new Map(refs.map(({ sha256 }, i) => [sha256, i]))
  samples = Array.from({ length: 4 * images }, (_, i) =>
    makeSample(`set-${i}`, {
      dataset: 'set',
      images: [refs[i % images]],
      question: `Is there sign ${i}?`,
      answer: (i * 7) % 3 === 0 ? 'yes' : 'no',
    }),
  )
  await writeRecords(join(folder, 'samples.jsonl'), samples)
})

/** What a request holds: the number of the question, and that of the image, if any. */
function asked(body: string): { question: number; image: number | null; model: string } {
  const { messages, model } = JSON.parse(body)
  const parts: { type: string; text?: string; image_url?: { url: string } }[] = messages[0].content
  const text = parts.find(({ type }) => type === 'text')?.text ?? ''
  const url = parts.find(({ type }) => type === 'image_url')?.image_url?.url
  const sha256 =
    url &&
    createHash('sha256')
      .update(Buffer.from(url.split(',')[1], 'base64'))
      .digest('hex')
  const image = sha256 === undefined ? null : (shown.get(sha256) ?? -1)
  return { question: Number(/sign (\d+)/.exec(text)?.[1]), image, model }
}

/** Two servers, the second better on the first `better` questions: by knowing the question, or by seeing its own image. */
function request(more: Partial<EvaluationRequest> = {}): EvaluationRequest {
  const path = join(folder, 'samples.jsonl')
  return {
    samples: path,
    imageRoot: folder,
    out: join(folder, 'out'),
    systems: ['base', 'tuned'].map((model) => ({
      ...{ name: model, kind: 'server', cache: join(folder, 'cache') },
      endpoint: { url: `${server.url}/v1`, model, retryDelay: 0.001 },
    })),
    asked: sampleSettings.parse({ samples: path, out: 'x' }),
    engine: { device: 'cpu', dtype: 'f32', threads: 1, batchSize: 8 },
    truth: null,
    scores: [],
    margin: 0.03,
    maxUnreadable: 0.05,
    seed: 42,
    priors: ['question', 'swapped'],
    ...more,
  }
}

function serve(knows: (question: number, image: number | null) => boolean): void {
  server.answer = (response, { body }) => {
    const { question, image, model } = asked(body)
    const right = samples[question].answer
    const isRight = question % 2 === 0 || (model === 'tuned' && knows(question, image))
    say(response, isRight ? right : right === 'yes' ? 'no' : 'yes')
  }
}

const priorsOf = () => readLines<PriorRecord>(join(folder, 'out', 'priors.jsonl'))

describe('a system without the image', () => {
  it('is shown nothing, or another image of the data set, and never its own', async () => {
    serve(() => true)
    await evaluate(request())
    const records = await priorsOf()
    expect(records).toHaveLength(2 * 2 * samples.length)
    for (const { prior, shown: sha256, imageId } of records) {
      if (prior === 'question') expect(sha256).toBeNull()
      else expect(shown.has(sha256 as string) && sha256 !== imageId).toBe(true)
    }
    const seen = server.asked.map(({ body }) => asked(body))
    expect(seen.filter(({ image }) => image === null)).toHaveLength(2 * samples.length)
    expect(seen.filter(({ question, image }) => image === question % images)).toHaveLength(2 * samples.length)
    expect(seen.filter(({ image }) => image === -1)).toHaveLength(0)
    // A second run asks for nothing, and swaps alike.
    const before = server.asked.length
    await evaluate(request())
    expect([server.asked.length, await priorsOf()]).toEqual([before, records])
  })

  it('that gains from the question alone has no visual gain, and the page says so', async () => {
    serve(() => true)
    const { results } = (await evaluate(request())) ?? expect.fail('stopped')
    expect(results.comparisons[0].conclusion).toBe('gain')
    const { systems, comparisons } = results.blind ?? expect.fail('not asked')
    expect(systems.map(({ system, prior, groups }) => [system, prior, groups[0].accuracy.successes])).toEqual([
      ['base', 'question', 50],
      ['tuned', 'question', 100],
      ['base', 'swapped', 50],
      ['tuned', 'swapped', 100],
    ])
    expect(comparisons.map(({ conclusion, beyond }) => [conclusion, beyond.value])).toEqual([
      ['gain', 0],
      ['gain', 0],
    ])
    expect(results.notes.join()).toMatch(
      /tuned gains over base with the question alone too \(50\.0 points, n = 100\): .* is no visual gain/,
    )
    const page = await renderEvaluation(join(folder, 'out'))
    expect(page).toContain('Without the image')
    expect(page).toContain('is no visual gain')
  })

  it('that gains only with its image has one', async () => {
    serve((question, image) => image === question % images)
    const { results } = (await evaluate(request())) ?? expect.fail('stopped')
    expect(results.comparisons[0].conclusion).toBe('gain')
    const { systems, comparisons } = results.blind ?? expect.fail('not asked')
    expect(comparisons.every(({ conclusion }) => conclusion === 'equivalent')).toBe(true)
    expect(comparisons[0].beyond).toMatchObject({ value: 0.5 })
    expect(comparisons[0].beyond.interval?.low).toBeGreaterThan(0.3)
    expect(systems[1].image.difference.value).toBe(0.5)
    expect(results.notes.join()).not.toMatch(/visual gain/)
  })

  it('is judged as the others are, once, and again by another judge', async () => {
    serve(() => true)
    const answer = server.answer
    server.answer = (response, given, number) => {
      const { model } = JSON.parse(given.body)
      if (!model.startsWith('judge')) return answer(response, given, number)
      const content = model === 'judge' ? '{"verdict":"incorrect","reason":""}' : 'Hm.'
      reply(response, 200, { model: `${model}-2026`, choices: [{ message: { content }, finish_reason: 'stop' }] })
    }
    const judged = (model: string) => ({
      judge: {
        endpoint: { url: `${server.url}/v1`, model, retryDelay: 0.001 },
        ...{ on: 'all' as const, protocol: 'ours' as const, secondSample: 10, seed: 1, cache: join(folder, 'cache') },
      },
    })
    const { results } = (await evaluate(request(judged('judge')))) ?? expect.fail('stopped')
    expect(results.judging.judge).toMatchObject({ judged: 6 * samples.length, servedAs: ['judge-2026'] })
    for (const { by, verdict, judge } of await priorsOf()) {
      expect([by, verdict, judge?.servedAs]).toEqual(['judge', 'incorrect', 'judge-2026'])
    }
    const count = server.asked.length
    const out = join(folder, 'again')
    const again = await rejudge(join(folder, 'out'), { ...request(judged('judge-b')), out })
    const anew = server.asked.slice(count).map(({ body }) => JSON.parse(body).model)
    expect(new Set(anew)).toEqual(new Set(['judge-b']))
    expect(again.results.blind?.systems.map(({ groups: [all] }) => all.outcomes.unreadable)).toEqual([
      100, 100, 100, 100,
    ])
    const records = await readLines<PriorRecord>(join(out, 'priors.jsonl'))
    expect(records[0]).toMatchObject({ prior: 'question', shown: null, verdict: 'unreadable', judge: { raw: 'Hm.' } })
    expect(await renderEvaluation(out)).toContain('judge-b-2026')
  })
})

describe('swapped images', () => {
  it('come from the same data set, and a question whose set has no other is left out', () => {
    const [first, second] = samples
    const alone = { ...makeSample('lone-1', { dataset: 'lone', images: first.images }) }
    const bare = makeSample('set-x', { dataset: 'set' })
    const report = { ...second, id: 'set-r', task: 'report' as const }
    const all = [first, alone, bare, second, report]
    expect(blindSamples(all, 'swapped', 1).map(({ id, images: [image] }) => [id, image])).toEqual([
      ['set-0', second.images[0]],
      ['set-1', first.images[0]],
    ])
    expect(blindSamples(all, 'question', 1).map(({ id, images }) => [id, images])).toEqual([
      ['set-0', []],
      ['lone-1', []],
      ['set-1', []],
    ])
    const choices = (seed: number) => blindSamples(samples, 'swapped', seed).map(({ images: [image] }) => image.sha256)
    expect(choices(1)).toEqual(choices(1))
    expect(choices(1)).not.toEqual(choices(2))
  })
})
