/** Answers judged by a server that does what servers do: classes, replies that are paid once, and doubt. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { evaluate } from '../../src/evaluate/evaluation.js'
import type { JudgingRequest } from '../../src/evaluate/judging.js'
import { renderEvaluation } from '../../src/evaluate/page/render.js'
import { rejudge } from '../../src/evaluate/rejudge.js'
import { describeComparisons } from '../../src/evaluate/stage.js'
import { say, server } from '../endpoint/world.js'
import { writeRecords } from '../sample/records.js'
import { evaluated, folder, request, samples, systemOf, verdicts } from './world.js'

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
    const systems = [systemOf('half')]
    const { results } = await evaluated({ systems, ...judging() })
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

  it('judges again for nothing what the first folder has paid for, and keeps every reply with its day', async () => {
    server.answer = (response) => answerAs(response, '', {})
    await evaluate(request(judging({ cache: join(folder, 'out', 'cache') })))
    const paid = server.asked.length
    const out = join(folder, 'again')
    await rejudge(join(folder, 'out'), { ...request(judging({ cache: join(out, 'cache'), on: 'undecided' })), out })
    await rejudge(join(folder, 'out'), { ...request(judging({ cache: join(out, 'cache') })), out, overwrite: true })
    expect(server.asked.length).toBe(paid)
    const replies = (await verdicts('again')).flatMap(({ judge }) => judge ?? [])
    expect(replies.length).toBe(60)
    for (const { raw, date } of replies) {
      expect(raw).toBe('{"verdict":"correct","reason":""}')
      expect(date).toMatch(/^\d{4}-\d\d-\d\d$/)
    }
    // Replies of another day keep that day.
    const cache = join(folder, 'out', 'cache')
    for (const name of await readdir(cache)) {
      const text = await readFile(join(cache, name), 'utf8')
      await writeFile(join(cache, name), text.replace(/"date":"[^"]+"/, '"date":"2026-01-02"'))
    }
    const { results } = await rejudge(join(folder, 'out'), { ...request(judging({ cache })), out, overwrite: true })
    expect(results.judging.judge?.date).toBe('2026-01-02')
    expect((await verdicts('again')).flatMap(({ judge }) => judge?.date ?? [])).toEqual(Array(60).fill('2026-01-02'))
    expect(server.asked.length).toBe(paid)
  })

  it('is asked again in turns, also after an empty reply', async () => {
    server.answer = (response) => say(response, '')
    const systems = [systemOf('half')]
    const { results } = await evaluated({ systems, ...judging() })
    expect(results.systems[0].groups[0].outcomes).toMatchObject({ unreadable: 30, failed: 0 })
    for (const { body } of server.asked) {
      const roles: string[] = JSON.parse(body).messages.map(({ role }: { role: string }) => role)
      expect(roles.some((role, i) => role === roles[i + 1])).toBe(false)
    }
  })

  it('too many unreadable replies are a problem, and the numbers are there', async () => {
    server.answer = (response) => say(response, 'Hello!')
    const { results, problem } = await evaluated(judging())
    expect(problem?.message).toMatch(/could not be read/)
    expect(results.systems[0].groups[0].outcomes.unreadable).toBe(30)
  })

  it('that gives no verdict leaves nothing to conclude, and the page and the command say why', async () => {
    server.answer = (response) => say(response, 'Hello!')
    const systems = ['a', 'b'].map((name) => systemOf(name, 'half.jsonl'))
    const { results } = await evaluated({ systems, ...judging({ on: 'all' }) })
    expect(results.comparisons[0]).toMatchObject({ conclusion: 'not_resolved', doubt: { low: -1, high: 1 } })
    expect(describeComparisons(results.comparisons)[0]).toMatch(/not resolved.*\[-100\.0, \+100\.0\]/)
    expect(await renderEvaluation(join(folder, 'out'))).toContain('Too many answers have no verdict')
  })

  it('whose silence could undo a gain leaves none', async () => {
    const said = (name: string) =>
      samples.map(({ id, answer }, i) => ({ sampleId: id, text: i % 2 ? `${name} ${i} x` : answer }))
    for (const name of ['half', 'right']) await writeRecords(join(folder, `${name}.jsonl`), said(name))
    const conclusionOf = async (ofHalf: string, out: string) => {
      server.answer = (response, { body }) =>
        say(response, body.includes('half') ? ofHalf : '{"verdict":"correct","reason":""}')
      const asked = { ...judging({ cache: join(folder, out, 'cache') }), out: join(folder, out) }
      const { results } = await evaluated(asked)
      return results.comparisons[0].conclusion
    }
    expect(await conclusionOf('{"verdict":"incorrect","reason":""}', 'wrong')).toBe('gain')
    expect(await conclusionOf('Hello!', 'silent')).toBe('not_resolved')
  })
})
