/** What people say of answers, and what a judge says twice, counted by hand. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { type EvaluationRequest, evaluate } from '../../src/evaluate/evaluation.js'
import { readEvaluation } from '../../src/evaluate/finished.js'
import { readLabels } from '../../src/evaluate/judges/labels.js'
import type { JudgingRequest } from '../../src/evaluate/judging.js'
import { renderEvaluation, writeTables } from '../../src/evaluate/page/render.js'
import { rejudge } from '../../src/evaluate/rejudge.js'
import { sampleSettings } from '../../src/sample/index.js'
import { say, server } from '../endpoint/world.js'
import { temporaryFolder } from '../fakes/world.js'
import { makeSample, writeRecords } from '../sample/records.js'

let folder: string
const at = (name: string): string => join(folder, name)

// Twenty open questions; the first twelve answers are right by the rules.
const samples = Array.from({ length: 20 }, (_, i) =>
  makeSample(`q${i}`, { question: `What is in ${i}?`, answer: 'pneumonia', answerType: 'open' }),
)

beforeEach(async () => {
  folder = await temporaryFolder()
  await writeRecords(at('samples.jsonl'), samples)
  const said = samples.map(({ id }, i) => ({ sampleId: id, text: i < 12 ? 'pneumonia' : `text ${i} x` }))
  await writeRecords(at('said.jsonl'), said)
})

const judging = (out: string, more: Partial<JudgingRequest> = {}): JudgingRequest => ({
  ...{ out: at(out), truth: null, scores: [], margin: 0.03, maxUnreadable: 1, seed: 42, ...more },
})
const request = (more: Partial<JudgingRequest> = {}): EvaluationRequest => ({
  ...{ samples: at('samples.jsonl'), imageRoot: folder, ...judging('out', more) },
  systems: [{ name: 'said', kind: 'file', path: at('said.jsonl') }],
  asked: sampleSettings.parse({ samples: 'x', out: 'x' }),
  engine: { device: 'cpu', dtype: 'f32', threads: 1, batchSize: 8 },
})
const judge = (cache: string): Partial<JudgingRequest> => ({
  judge: {
    endpoint: { url: `${server.url}/v1`, model: 'm', retries: 0, retryDelay: 0.001 },
    ...{ on: 'weak', protocol: 'ours', secondSample: 0, seed: 1, cache: at(cache) },
  },
})

/** People looked at ten answers: of six that were judged correct five are, of four that were not three are not. */
const labels = [0, 1, 2, 3, 4, 5, 12, 13, 14, 15].map((i) => ({
  ...{ sampleId: `q${i}`, label: i < 5 || i === 12 ? 'correct' : 'incorrect' },
}))

describe('labels of people', () => {
  it('say how the judge errs, and what its number is without that', async () => {
    await writeRecords(at('labels.jsonl'), labels)
    const { results } = (await evaluate(request({ labels: at('labels.jsonl') }))) ?? expect.fail('stopped')
    expect(results.labels?.agreement).toMatchObject({ count: 10, agreement: 0.8 })
    expect(results.labels?.systems).toMatchObject([
      {
        system: 'said',
        sensitivity: { successes: 5, count: 6 },
        specificity: { successes: 3, count: 4 },
        reported: { successes: 12, count: 20 },
      },
    ])
    // (3/5 + 3/4 - 1) / (5/6 + 3/4 - 1)
    expect(results.labels?.systems[0].corrected?.value).toBeCloseTo(0.35 / (7 / 12), 12)
    const page = await renderEvaluation(at('out'))
    expect(page).toContain('Verdicts against people’s labels')
    expect(page).toContain('5 / 6')
    await writeTables(at('out'))
    expect(await readFile(at('out/tables/labels.csv'), 'utf8')).toMatch(/\r\nsaid,5,6,.*,3,4,.*,12,20,/)
    // Another judging of the same answers has the same labels.
    const again = await rejudge(at('out'), judging('again'))
    expect(again.results.labels).toEqual(results.labels)
  })

  it('are refused where they are of nothing, of two minds, or no label', async () => {
    const read = async (text: string, systems = ['a', 'b']) => {
      await writeFile(at('l.csv'), text)
      return readLabels(at('l.csv'), systems, new Set(['q0']))
    }
    expect(await read('sampleId,label\nq0,correct\n', ['a'])).toEqual([
      { system: 'a', sampleId: 'q0', label: 'correct' },
    ])
    await expect(read('sampleId,label\nq0,correct\n')).rejects.toThrow(/l\.csv:2.*expected a system/)
    await expect(read('system,sampleId,label\na,q0,maybe\n')).rejects.toThrow(/correct or incorrect/)
    await expect(read('system,sampleId,label\nc,q0,correct\n')).rejects.toThrow(/no system is called "c"/)
    await expect(read('system,sampleId,label\na,q9,correct\n')).rejects.toThrow(/the question was not asked/)
    await expect(read('system,sampleId,label\na,q0,correct\na,q0,incorrect\n')).rejects.toThrow(/labelled twice/)
  })
})

describe('a judge that is asked again', () => {
  it('is held against itself, on what it looked at, and paid again only where it is told to', async () => {
    const saysOf = (verdictOf: (i: number) => string) => {
      server.answer = (response, { body }) => {
        const i = Number(/text (\d+) x/.exec(body)?.[1])
        say(response, JSON.stringify({ verdict: verdictOf(i), reason: '' }))
      }
    }
    saysOf((i) => (i < 16 ? 'correct' : 'incorrect'))
    const { results } = (await evaluate(request(judge('out/cache')))) ?? expect.fail('stopped')
    const asked = results.judging.judge?.judged as number
    expect([asked, results.retest]).toEqual([8, null])
    // Its mind changes on one answer, and it decides no more on another.
    saysOf((i) => (i === 12 ? 'incorrect' : i === 19 ? 'unclear' : i < 16 ? 'correct' : 'incorrect'))
    const paid = server.asked.length
    const same = await rejudge(at('out'), judging('same', judge('same/cache')))
    expect(same.results.retest).toMatchObject({ folder: '../out', count: 8, changed: 0, agreement: { kappa: 1 } })
    expect(server.asked.length).toBe(paid)

    const anew = await rejudge(at('out'), { ...judging('anew', judge('anew/cache')), anew: true })
    expect(server.asked.length).toBe(paid + 8)
    // Seven that both decide: 3 correct twice, 1 from correct to incorrect, 3 incorrect twice.
    expect(anew.results.retest).toMatchObject({ count: 8, changed: 2, agreement: { count: 7, leftOut: 1 } })
    expect(anew.results.retest?.agreement?.agreement).toBeCloseTo(6 / 7, 12)
    expect(await renderEvaluation(at('anew'))).toContain('Agreement with the judging before')
    expect((await readEvaluation(at('anew'))).retest).toEqual(anew.results.retest)
    // What it replied now is kept.
    await rejudge(at('out'), { ...judging('anew', judge('anew/cache')), anew: true, overwrite: true })
    expect(server.asked.length).toBe(paid + 8)
    await expect(rejudge(at('out'), { ...judging('kept', judge('out/cache')), anew: true })).rejects.toThrow(
      /are those of the first judging/,
    )
  })

  it('by rules is held against all verdicts', async () => {
    await evaluate(request())
    const { results } = await rejudge(at('out'), judging('rules'))
    expect(results.retest).toMatchObject({ count: 20, changed: 0 })
  })
})
