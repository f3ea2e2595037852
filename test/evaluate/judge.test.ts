import { describe, expect, it } from 'vitest'
import { judgeAnswers, judgeByRule, phantomJudge } from '../../src/evaluate/index.js'
import { generateStudies, studySamples } from '../../src/phantom/index.js'
import { sayClaim } from '../../src/phantom/language.js'
import { makeSample } from '../sample/records.js'

describe('judgeAnswers', () => {
  it('keeps a question without an answer, and groups by what its importer says', async () => {
    const sample = makeSample('s', { meta: { ask: 'presence', concept: 3 } })
    expect(await judgeAnswers([sample], new Map(), null)).toMatchObject([
      {
        sampleId: 's',
        imageId: 's',
        answerType: 'closed',
        groups: { ask: 'presence', concept: 'test' },
        question: sample.question,
        reference: sample.answer,
        text: null,
        verdict: 'failed',
        reason: 'no answer',
      },
    ])
  })

  it('has what published scripts count by the field of the set, whatever rule the import followed', async () => {
    const [asImported, asTold] = await judgeAnswers(
      [
        makeSample('a', { answer: 'CT', answerType: 'closed' }),
        makeSample('b', { answer: 'CT', answerType: 'open', meta: { answerType: 'closed' } }),
      ],
      new Map([
        ['a', 'no, CT'],
        ['b', 'no, CT'],
      ]),
      null,
    )
    expect(asImported.parity).toMatchObject({ llavaMed: 1, scores: null })
    expect(asTold.parity).toEqual(asImported.parity)
  })

  it('asks the judge about every text that is not empty, in the order of the samples', async () => {
    const samples = ['a', 'b', 'c'].map((id) => makeSample(id))
    const asked: string[] = []
    const judge = {
      about: { kind: 'test', description: 'by length' },
      async judge(_: unknown, text: string) {
        asked.push(text)
        return { correct: text.length > 2, decided: true, reason: 'length' }
      },
    }
    const said = new Map([
      ['c', 'long'],
      ['a', 'no'],
      ['b', ' '],
    ])
    const judged = await judgeAnswers(samples, said, judge)
    expect(asked).toEqual(['no', 'long'])
    expect(judged.map(({ verdict, by, reason }) => [verdict, by, reason])).toEqual([
      ['incorrect', 'truth', 'length'],
      ['failed', 'rule', 'the answer is empty'],
      ['correct', 'truth', 'length'],
    ])
  })
})

describe('phantomJudge', () => {
  it('goes by the truth of the record, where the rules see only the reference', async () => {
    const image = { path: 'a.png', sha256: '0'.repeat(64), width: 96, height: 96 }
    const study = generateStudies({ seed: 1, split: 'test', count: 20 }).find(({ questions }) =>
      questions.some(({ truth }) => truth.ask.intent === 'side'),
    )!
    const index = study.questions.findIndex(({ truth }) => truth.ask.intent === 'side')
    const { truth } = study.questions[index]
    const sample = studySamples(study, image)[index]
    if (truth.ask.intent === 'report') throw new Error('not a report')
    const right = sayClaim(truth.ask, truth.claim!, 0)
    expect(await phantomJudge.judge(sample, right)).toMatchObject({ correct: true, decided: true })
    expect(judgeByRule(sample, right).verdict).toBe('correct')
    await expect(phantomJudge.judge(makeSample('s'), 'yes')).rejects.toThrow(/no truth/)
  })
})
