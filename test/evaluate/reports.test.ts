/** Reports: GREEN by a server that does what servers do, scores of others, and what of them is lost. */
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import type { Sample } from '../../src/data/records.js'
import { evaluate } from '../../src/evaluate/evaluation.js'
import { readFolder } from '../../src/evaluate/page/folder.js'
import { publishedSection } from '../../src/evaluate/page/published.js'
import { say, server } from '../endpoint/world.js'
import { makeSample, writeRecords } from '../sample/records.js'
import { evaluated, folder, image, request, systemOf } from './world.js'

describe('reports', () => {
  let reports: Sample[]

  beforeEach(async () => {
    reports = Array.from({ length: 24 }, (_, i) =>
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
  })

  const green = async () => ({
    endpoint: { url: `${server.url}/v1`, model: 'g', retries: 0, retryDelay: 0.001 },
    prompt: (await import('../../src/evaluate/reports/prompt.js')).generalPrompt,
    cache: join(folder, 'cache'),
  })
  const section = (matched: string): string =>
    `[Clinically Significant Errors]:\n(b) Missing finding: 1. x\n\n[Clinically Insignificant Errors]:\nNone.\n\n[Matched Findings]:\n${matched}`

  it('alone have nothing to say of answers', async () => {
    const { results } = await evaluated()
    expect(results.comparisons[0].lost).toEqual({ baseline: 0, system: 0, p: 1 })
    expect(results.notes).toEqual([])
    expect(results.systems[0].groups[0].words).toBeNull()
  })

  it('that one system lost put the comparison in doubt', async () => {
    server.answer = (response, { body }) => say(response, /half \d /.test(body) ? 'Sorry.' : section('1. a'))
    await writeRecords(
      join(folder, 'half.jsonl'),
      reports.map(({ id }, i) => ({ sampleId: id, text: `${i < 10 ? 'half' : 'whole'} ${i} The heart is normal.` })),
    )
    const { results } = await evaluated({ green: await green() })
    expect(results.notes).toEqual(['10 reports of half and 0 of right have no GREEN: their comparison is in doubt.'])
  })

  it('that were never written are no replies of GREEN', async () => {
    server.answer = (response) => say(response, section('1. a'))
    await writeRecords(
      join(folder, 'half.jsonl'),
      reports.slice(8).map(({ id }, i) => ({ sampleId: id, text: `half ${i}` })),
    )
    const { results, problem } = await evaluated({ green: await green() })
    expect(results.reports?.systems[0].green).toMatchObject({
      reports: 24,
      missing: 8,
      failed: 0,
      parity: { count: 16, value: 0.5 },
    })
    expect(problem).toBeUndefined()
  })

  it('have no mean where every request failed, and the page has a dash', async () => {
    server.answer = (response) => void response.writeHead(400).end('no')
    await writeRecords(
      join(folder, 'samples.jsonl'),
      reports.map((each) => ({ ...each, dataset: 'iu-xray' })),
    )
    const { results, problem } = await evaluated({ green: await green() })
    expect(results.reports?.systems[0].green).toMatchObject({
      failed: 24,
      missing: 0,
      parity: { count: 0, value: null },
    })
    expect(problem?.message).toContain('24 of 24 GREEN replies on half (100.0 %)')
    expect(publishedSection(await readFolder(join(folder, 'out')))).toBeNull()
  })

  it.each([
    [[[{ sampleId: 'r-0', metric: 'bleu1', value: 1 }]], 'bleu1 is a score that is counted here'],
    [[[{ sampleId: 'r-0', GREEN: 1 }]], 'GREEN is a score that is counted here'],
    [[[{ sampleId: 'r-0', radgraph: 1 }], [{ sampleId: 'r-0', radgraph: 0 }]], 'radgraph is there twice'],
  ])('refuses scores %j', async (files, message) => {
    const scores = files.map((_, i) => join(folder, `scores-${i}.jsonl`))
    for (const [i, lines] of files.entries()) await writeRecords(scores[i], lines)
    const systems = [systemOf('half')]
    await expect(evaluate(request({ systems, scores }))).rejects.toThrow(message)
  })

  it('are read by GREEN twice, with bounds, and scores of others join', async () => {
    const scores = reports.map(({ id }, i) => ({ system: 'half', sampleId: id, metric: 'radgraph', value: i / 24 }))
    await writeRecords(join(folder, 'scores.jsonl'), scores)
    server.answer = (response, { body }) =>
      say(response, body.includes('half 3 ') ? 'Sorry.' : section(body.includes('right') ? '3. a; b; c' : '1. a'))
    const { results } = await evaluated({
      scores: [join(folder, 'scores.jsonl')],
      green: await green(),
    })
    const [half, right] = results.reports?.systems ?? []
    expect(half.green).toMatchObject({ ok: 23, unreadable: { no_sections: 1 }, strict: { count: 23, value: 0.5 } })
    expect(half.green?.bounds).toEqual({ low: 11.5 / 24, high: 12.5 / 24 })
    expect(half.green?.parity).toMatchObject({ count: 24 })
    expect(half.green?.parity.value).toBeCloseTo(11.5 / 24, 12)
    expect(right.green?.findings.micro).toEqual({ precision: 1, recall: 0.75 })
    expect(half.scores.radgraph.count).toBe(24)
    const [{ scores: compared }] = results.reports?.comparisons ?? []
    expect(compared[0]).toMatchObject({ name: 'green', both: 23, lost: { baseline: 1, system: 0 } })
    expect(compared[0].difference.value).toBeCloseTo(0.25, 12)
  })
})
