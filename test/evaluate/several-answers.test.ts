/** Several answers to one question, from a file or drawn from a server: which of them count, and pass@k. */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { evaluate } from '../../src/evaluate/evaluation.js'
import { rejudge } from '../../src/evaluate/rejudge.js'
import { sampleSettings } from '../../src/sample/index.js'
import { say, server } from '../endpoint/world.js'
import { makeSample, writeRecords } from '../sample/records.js'
import { evaluated, folder, request, samples, systemOf, verdicts } from './world.js'

describe('what a file of answers says', () => {
  const only = () => [systemOf('k')]

  it('stays under its number: a second answer does not stand in for the first', async () => {
    // The first thirty questions lack their first answer.
    const lines = samples.flatMap(({ id, answer }, i) => [0, 1].map((k) => ({ sampleId: id, k, text: answer, i })))
    await writeRecords(
      join(folder, 'k.jsonl'),
      lines.filter(({ i, k }) => i >= 30 || k === 1).map(({ i: _, ...line }) => line),
    )
    const { results } = await evaluated({ systems: only() })
    const [{ groups, sampled }] = results.systems
    expect(groups[0]).toMatchObject({ accuracy: { successes: 30, count: 60 }, outcomes: { failed: 30 } })
    // Half of the questions have one right answer of two, the other half two.
    expect(sampled).toMatchObject({
      questions: 60,
      answers: 2,
      passAtK: [
        { k: 1, value: 0.75 },
        { k: 2, value: 1 },
      ],
    })
  })

  it('leaves pass@k to the other questions where one is missing', async () => {
    const lines = samples.slice(1).flatMap(({ id, answer }) => [0, 1].map((k) => ({ sampleId: id, k, text: answer })))
    await writeRecords(join(folder, 'k.jsonl'), lines)
    const { results } = await evaluated({ systems: only() })
    expect(results.systems[0].sampled?.passAtK).toMatchObject([1, 2].map((k) => ({ k, value: 59 / 60 })))
  })

  it('is refused where it counts from 1', async () => {
    await writeRecords(
      join(folder, 'k.jsonl'),
      samples.map(({ id }) => ({ sampleId: id, k: 1, text: 'yes' })),
    )
    await expect(evaluate(request({ systems: only() }))).rejects.toThrow('no answer with the number 0')
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
    const { results } = await evaluated({
      samples: path,
      systems: [{ name: 'served', kind: 'server', endpoint }],
      asked: sampleSettings.parse(settings),
    })
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
    const { results } = await evaluated({ systems: [systemOf('several')] })
    expect(results.systems[0].groups[0].accuracy).toMatchObject({ successes: 20, count: 60 })
    expect(results.systems[0].sampled).toMatchObject({
      greedy: null,
      answers: 2,
      passAtK: [{ value: 2 / 3 }, { value: 1 }],
    })
  })
})
