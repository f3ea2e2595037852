/** An evaluation from prediction files to numbers, with a judge that does what servers do. */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeEach, describe, expect, it } from 'vitest'
import type { Sample } from '../../src/data/records.js'
import { type EvaluationRequest, evaluate, type JudgingRequest, rejudge } from '../../src/evaluate/evaluation.js'
import type { VerdictRecord } from '../../src/evaluate/records.js'
import { sampleSettings } from '../../src/sample/index.js'
import { say, server } from '../endpoint/world.js'
import { temporaryFolder } from '../fakes/world.js'
import { makeSample, readLines, writeRecords } from '../sample/records.js'

let folder: string
let samples: Sample[]

const image = (number: number) => ({
  path: `${number}.png`,
  sha256: String(number).padStart(64, '0'),
  width: 8,
  height: 8,
})

beforeEach(async () => {
  folder = await temporaryFolder()
  // Thirty images of two questions, one closed and one open.
  samples = Array.from({ length: 60 }, (_, i) =>
    makeSample(`set-${i}`, {
      images: [image(i >> 1)],
      ...(i % 2 === 0
        ? { question: 'Is there a nodule?', answer: i % 4 === 0 ? 'yes' : 'no' }
        : { question: 'What is shown?', answer: 'pneumonia', answerType: 'open' as const }),
    }),
  )
  await writeRecords(join(folder, 'samples.jsonl'), samples)
  const right = samples.map(({ id, answer }) => ({ question_id: id.slice(4), text: answer }))
  const half = samples.map(({ id, answer }, i) => ({ sampleId: id, text: i % 3 === 0 ? 'Something else.' : answer }))
  await writeRecords(join(folder, 'right.jsonl'), right)
  await writeRecords(join(folder, 'half.jsonl'), half)
})

function request(more: Partial<EvaluationRequest> = {}): EvaluationRequest {
  const path = join(folder, 'samples.jsonl')
  return {
    samples: path,
    imageRoot: folder,
    out: join(folder, 'out'),
    systems: ['half', 'right'].map((name) => ({ name, kind: 'file', path: join(folder, `${name}.jsonl`) })),
    asked: sampleSettings.parse({ samples: path, out: 'x' }),
    engine: { device: 'cpu', dtype: 'f32', threads: 1, batchSize: 8 },
    truth: null,
    scores: [],
    margin: 0.03,
    maxUnreadable: 0.05,
    seed: 42,
    ...more,
  }
}

const verdicts = (name = 'out') => readLines<VerdictRecord>(join(folder, name, 'verdicts.jsonl'))

describe('systems from files', () => {
  it('are counted under three closed rules and compared by image', async () => {
    const { results, problem } = (await evaluate(request())) ?? expect.fail('stopped')
    expect(problem).toBeUndefined()
    expect(results).toMatchObject({ questions: 60, images: 30, baseline: 'half' })
    const [half, right] = results.systems
    expect(right.groups[0].accuracy).toMatchObject({ successes: 60, count: 60 })
    expect(half.groups[0].accuracy.successes).toBe(40)
    for (const kind of ['answerType', 'yesNoExact', 'paperSubstring']) {
      const closed = half.groups.find((group) => group.kind === kind && group.name === 'closed')
      expect(closed?.accuracy.count).toBe(30)
    }
    const [{ conclusion, groups }] = results.comparisons
    expect(conclusion).toBe('gain')
    expect(groups[0]).toMatchObject({ counts: { gained: 20, lost: 0 }, clusters: { count: 30 } })
    expect(groups[0].clusters.bootstrap?.low).toBeGreaterThan(0.2)
  })

  it('an arm against itself is no gain, and twenty lines of Python find the headline', async () => {
    const path = join(folder, 'half.jsonl')
    const systems = ['a', 'b'].map((name) => ({ name, kind: 'file' as const, path }))
    const { results } = (await evaluate(request({ systems }))) ?? expect.fail('stopped')
    const [{ conclusion, groups }] = results.comparisons
    expect(groups[0].mcnemar.exact).toBe(1)
    expect(groups[0].difference.value).toBe(0)
    expect(conclusion).toBe('equivalent')
    const script = new URL('recount.py', import.meta.url).pathname
    const { stdout } = await promisify(execFile)('python3', [script, join(folder, 'out', 'verdicts.jsonl'), 'a'])
    const { successes, count } = results.systems[0].groups[0].accuracy
    expect(stdout.trim()).toBe(`${successes}/${count}`)
  })

  it.each([
    [{ sampleId: 'set-1', text: 'a' }, 'is there twice'],
    [{ sampleId: 'other', text: 'a' }, 'not asked'],
    [{ sampleId: 'set-1' }, 'expected a text'],
    [{ text: 'a' }, 'expected an id'],
    [{ sampleId: 'set-1', k: 1, question: 'Where is the liver?', text: 'a' }, 'the question is'],
  ])('refuses %j', async (line, message) => {
    await writeRecords(join(folder, 'half.jsonl'), [
      { sampleId: 'set-1', k: 0, text: 'x' },
      { k: 0, ...line },
    ])
    await expect(evaluate(request())).rejects.toThrow(message)
  })

  it('counts what is not in a file as failed, in the denominator', async () => {
    await writeFile(join(folder, 'half.csv'), 'qid,question,output\n0,Is there a nodule?,yes\n2,,"no, nothing"\n')
    const systems = [{ name: 'csv', kind: 'file' as const, path: join(folder, 'half.csv') }]
    const { results } = (await evaluate(request({ systems }))) ?? expect.fail('stopped')
    expect(results.systems[0].groups[0]).toMatchObject({
      accuracy: { successes: 2, count: 60 },
      outcomes: { failed: 58 },
    })
  })
})

/** What a server does, by the number of the question in what it is asked. */
function answerAs(response: ServerResponse, asked: string, replies: Record<string, unknown>): void {
  const key = Object.keys(replies).find((each) => asked.includes(each))
  say(response, key === undefined ? '{"verdict":"correct","reason":""}' : replies[key])
}

describe('a judge', () => {
  const judging = (more: object = {}): Partial<JudgingRequest> => ({
    judge: {
      endpoint: { url: `${server.url}/v1`, model: 'm', retryDelay: 0.001, retries: 0 },
      on: 'open',
      protocol: 'ours',
      secondSample: 10,
      seed: 1,
      cache: join(folder, 'cache'),
      ...more,
    },
  })

  beforeEach(async () => {
    const said = samples.map(({ id, answer }, i) => ({ sampleId: id, text: i % 2 === 1 ? `text ${i} x` : answer }))
    await writeRecords(join(folder, 'half.jsonl'), said)
  })

  it('gives each reply its class, and none of the others becomes right or wrong', async () => {
    server.answer = (response, { body }) => {
      if (body.includes('text 9 x')) return void response.writeHead(500).end('oops')
      answerAs(response, body, {
        'text 1 x': '{"verdict":"incorrect","reason":"other"}',
        'text 3 x': 'I cannot say.',
        'text 5 x': '{"verdict":"correct"} {"verdict":"incorrect"}',
        'text 7 x': '{"verdict":"unclear","reason":""}',
      })
    }
    const systems = [{ name: 'half', kind: 'file' as const, path: join(folder, 'half.jsonl') }]
    const { results } = (await evaluate(request({ systems, ...judging() }))) ?? expect.fail('stopped')
    const { outcomes } = results.systems[0].groups[0]
    expect(outcomes).toEqual({ correct: 30 + 25, incorrect: 1, unreadable: 2, undecided: 1, failed: 1 })
    expect(results.judging.judge).toMatchObject({ model: 'm', judged: 30, unreadable: 2, failed: 1 })
    // Asked once more, then given up.
    expect(server.asked.filter(({ body }) => body.includes('text 3 x'))).toHaveLength(2)
  })

  it('is paid once, asked anew under another name, and a second one is compared', async () => {
    server.answer = (response) => answerAs(response, '', {})
    const twice = () => evaluate(request(judging()))
    await twice()
    const paid = server.asked.length
    const before = await verdicts()
    await twice()
    expect(server.asked.length).toBe(paid)
    expect(await verdicts()).toEqual(before)
    const endpoint = { url: `${server.url}/v1`, model: 'other', retryDelay: 0.001 }
    const second = await rejudge(join(folder, 'out'), {
      ...request(judging({ second: endpoint })),
      out: join(folder, 'again'),
    })
    // Equal answers to equal questions are one request.
    const anew = server.asked.slice(paid).map(({ body }) => JSON.parse(body).model)
    expect(new Set(anew)).toEqual(new Set(['other']))
    expect(anew.length).toBeLessThanOrEqual(10)
    expect(second.results.judging.agreement).toMatchObject({ count: 10, agreement: 1, leftOut: 0 })
  })

  it('too many unreadable replies are a problem, and the numbers are there', async () => {
    server.answer = (response) => say(response, 'Hello!')
    const { results, problem } = (await evaluate(request(judging()))) ?? expect.fail('stopped')
    expect(problem?.message).toMatch(/could not be read/)
    expect(results.systems[0].groups[0].outcomes.unreadable).toBe(30)
  })
})

describe('reports', () => {
  it('are read by GREEN twice, with bounds, and scores of others join', async () => {
    const reports = Array.from({ length: 24 }, (_, i) =>
      makeSample(`r-${i}`, {
        task: 'report',
        images: [image(i)],
        answer: 'The heart is enlarged.',
        answerType: 'open',
      }),
    )
    await writeRecords(join(folder, 'samples.jsonl'), reports)
    for (const name of ['half', 'right']) {
      const said = reports.map(({ id }, i) => ({ sampleId: id, text: `${name} ${i} The heart is normal.` }))
      await writeRecords(join(folder, `${name}.jsonl`), said)
    }
    const scores = reports.map(({ id }, i) => ({ system: 'half', sampleId: id, metric: 'radgraph', value: i / 24 }))
    await writeRecords(join(folder, 'scores.jsonl'), scores)
    const section = (matched: string): string =>
      `[Clinically Significant Errors]:\n(b) Missing finding: 1. x\n\n[Clinically Insignificant Errors]:\nNone.\n\n[Matched Findings]:\n${matched}`
    server.answer = (response, { body }) =>
      say(response, body.includes('half 3 ') ? 'Sorry.' : section(body.includes('right') ? '3. a; b; c' : '1. a'))
    const { results } =
      (await evaluate(
        request({
          scores: [join(folder, 'scores.jsonl')],
          green: {
            endpoint: { url: `${server.url}/v1`, model: 'g' },
            prompt: (await import('../../src/evaluate/reports/prompt.js')).generalPrompt,
            cache: join(folder, 'cache'),
          },
        }),
      )) ?? expect.fail('stopped')
    const [half, right] = results.reports?.systems ?? []
    expect(half.green).toMatchObject({ ok: 23, unreadable: { no_sections: 1 }, strict: { count: 23, value: 0.5 } })
    expect(half.green?.bounds).toEqual({ low: 11.5 / 24, high: 12.5 / 24 })
    expect(half.green?.parity).toBeCloseTo(11.5 / 24, 12)
    expect(right.green?.findings.micro).toEqual({ precision: 1, recall: 0.75 })
    expect(half.scores.radgraph.count).toBe(24)
    const [{ scores: compared }] = results.reports?.comparisons ?? []
    expect(compared[0]).toMatchObject({ name: 'green', both: 23, lost: { baseline: 1, system: 0 } })
    expect(compared[0].difference.value).toBeCloseTo(0.25, 12)
  })
})

describe('several answers', () => {
  it('are drawn beside a greedy one, which accuracy is counted on; judged again they stay apart', async () => {
    const path = join(folder, 'few.jsonl')
    await writeRecords(
      path,
      ['a', 'b'].map((id) => makeSample(id, { question: `Is there ${id}?` })),
    )
    const asked: number[] = []
    server.answer = (response, { body }) => {
      const { temperature } = JSON.parse(body) as { temperature: number }
      asked.push(temperature)
      // The greedy answer is right; every drawn one is wrong.
      say(response, temperature === 0 ? 'Yes.' : 'No.')
    }
    const endpoint = { url: `${server.url}/v1`, model: 'm', retryDelay: 0.001, retries: 0 }
    const settings = { samples: path, out: 'x', answers: 3, temperature: 0.7, topP: 0.9 }
    const { results } =
      (await evaluate(
        request({
          samples: path,
          systems: [{ name: 'served', kind: 'server', endpoint }],
          asked: sampleSettings.parse(settings),
        }),
      )) ?? expect.fail('stopped')
    expect(asked.sort()).toEqual([0, 0, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7])
    const records = await verdicts()
    expect(records.map(({ sampleId, k, sampled }) => [sampleId, k, sampled])).toEqual([
      ...['a', 'b'].map((id) => [id, 0, false]),
      ...['a', 'b'].flatMap((id) => [1, 2, 3].map((k) => [id, k, true])),
    ])
    const judging = { out: join(folder, 'again'), truth: null, scores: [], margin: 0.03, maxUnreadable: 0.05, seed: 42 }
    const expected = { questions: 2, answers: 3, greedy: { value: 1 }, headroom: { value: 0 }, consistent: 1 }
    for (const { systems } of [results, (await rejudge(join(folder, 'out'), judging)).results]) {
      expect(systems[0].groups[0].accuracy).toMatchObject({ successes: 2, count: 2 })
      expect(systems[0].sampled).toMatchObject(expected)
      expect(systems[0].sampled?.passAtK.map(({ k, value }) => [k, value])).toEqual([
        [1, 0],
        [2, 0],
        [3, 0],
      ])
    }
  })

  it('of a file are all drawn, and accuracy is that of the first', async () => {
    const path = join(folder, 'several.jsonl')
    const two = samples.flatMap(({ id, answer }, i) => [
      { sampleId: id, k: 0, text: i < 20 ? answer : 'Something else.' },
      { sampleId: id, k: 1, text: answer },
    ])
    await writeRecords(path, two)
    const { results } =
      (await evaluate(request({ systems: [{ name: 'f', kind: 'file', path }] }))) ?? expect.fail('stopped')
    expect(results.systems[0].groups[0].accuracy).toMatchObject({ successes: 20, count: 60 })
    expect(results.systems[0].sampled).toMatchObject({
      greedy: null,
      answers: 2,
      passAtK: [{ value: 2 / 3 }, { value: 1 }],
    })
  })
})
