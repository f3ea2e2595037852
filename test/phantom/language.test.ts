import { describe, expect, it } from 'vitest'
import { type Sample, sample } from '../../src/data/records.js'
import { DataError } from '../../src/errors.js'
import { wordDistance, wordsOf } from '../../src/pairs/words.js'
import {
  counterfactual,
  generateStudies,
  judge,
  Rng,
  readTruth,
  repair,
  type Study,
  type StudyQuestion,
  studySamples,
} from '../../src/phantom/index.js'
import { answerStyles, possibleClaims, sayClaim, sayReport } from '../../src/phantom/language.js'
import { isClosed, possibleAsks, terseAnswer, truthOf } from '../../src/phantom/questions.js'
import { categoryOf, judgeUnit } from '../../src/phantom/restate.js'

interface Case {
  study: Study
  question: StudyQuestion
}

/** Every question that can be asked of each study, not only those it carries. */
const cases: Case[] = generateStudies({ seed: 11, split: 'train', count: 250 }).flatMap((study) =>
  possibleAsks(study.findings).map((ask, index) => {
    const claim = truthOf(ask, study.findings)
    const question: StudyQuestion = {
      id: `${study.id}-${index}`,
      task: ask.intent === 'report' ? 'report' : 'vqa',
      question: '',
      answer: terseAnswer(ask, claim, study.findings),
      answerType: isClosed(ask) ? 'closed' : 'open',
      concept: ask.intent === 'report' ? 'report' : ask.finding,
      truth: { ask, claim, findings: study.findings },
    }
    return { study, question }
  }),
)

function canonical({ study, question }: Case): string[] {
  const { ask, claim } = question.truth
  return Array.from({ length: answerStyles(ask) }, (_, style) =>
    ask.intent === 'report' ? sayReport(ask.scope, study.findings, style) : sayClaim(ask, claim!, style),
  )
}

/** A report is said again one sentence at a time; every other answer as a whole. */
function unitsOf({ question }: Case, answer: string): string[] {
  return question.task === 'report' ? answer.split(/(?<=\.) /) : [answer]
}

describe('judge', () => {
  it('agrees with every true sentence and with the terse reference', () => {
    expect(cases.length).toBeGreaterThan(3000)
    for (const item of cases) {
      for (const answer of canonical(item)) {
        const verdict = judge(item.question.truth, answer)
        expect(verdict, `${answer} ${JSON.stringify(item.question.truth.ask)}`).toMatchObject({
          correct: true,
          decided: true,
        })
      }
      if (item.question.task === 'vqa') expect(judge(item.question.truth, item.question.answer).correct).toBe(true)
    }
  })

  it('rejects every other claim, and marks as undecided what does not answer', () => {
    for (const { question } of cases) {
      const { ask, claim } = question.truth
      if (ask.intent === 'report') continue
      for (const other of possibleClaims(ask.intent)) {
        const same = sayClaim(ask, other, 0) === sayClaim(ask, claim!, 0)
        expect(judge(question.truth, sayClaim(ask, other, 0)).correct).toBe(same)
      }
      for (const empty of ['', '   ', 'The film is of good quality.', 'Yes, there is no such thing.']) {
        if (ask.intent === 'presence' && empty.startsWith('The')) continue
        expect(judge(question.truth, empty).correct && ask.intent !== 'side-check').toBe(false)
      }
    }
  })

  it('reads other wordings', () => {
    const { question } = cases.find(({ question: q }) => q.truth.ask.intent === 'presence' && !q.truth.claim!.present)!
    expect(judge(question.truth, 'no')).toMatchObject({ correct: true })
    expect(judge(question.truth, 'YES')).toMatchObject({ correct: false, decided: true })
    expect(judge(question.truth, 'Yes, it is absent.')).toMatchObject({ correct: false, decided: false })
  })
})

describe('repair', () => {
  it('makes any false sentence right', () => {
    const rng = new Rng('repair')
    let repaired = 0
    for (const item of cases) {
      const { ask, claim } = item.question.truth
      const answer =
        ask.intent === 'report'
          ? sayReport(ask.scope, rng.pick(cases).study.findings, rng.int(2))
          : sayClaim(ask, rng.pick(possibleClaims(ask.intent)), rng.int(3))
      const mended = unitsOf(item, answer).map((unit) => {
        const said = repair(item.question.truth, unit)
        expect(said === null, `${unit} ${JSON.stringify(claim)}`).toBe(judgeUnit(item.question.truth, unit).correct)
        return said ?? unit
      })
      if (mended.join(' ') !== answer) repaired++
      expect(judge(item.question.truth, mended.join(' ')).correct, `${answer} -> ${mended.join(' ')}`).toBe(true)
    }
    expect(repaired).toBeGreaterThan(2000)
  })

  it('does not pretend to know how a foreign sentence is mended', () => {
    const { question } = cases[0]!
    const wrong = question.truth.claim!.present ? 'I would say no' : 'I would say yes'
    expect(repair(question.truth, wrong)).toBeNull()
  })

  it('keeps surrounding space', () => {
    const { question } = cases.find(({ question: q }) => q.truth.ask.intent === 'side')!
    const { side } = question.truth.claim!
    const noun = question.concept
    const wrong = `  The ${noun} is on the ${side === 'left' ? 'right' : 'left'} side. `
    expect(repair(question.truth, wrong)).toBe(`  The ${noun} is on the ${side} side. `)
  })
})

describe('counterfactual', () => {
  it('makes any true sentence wrong by few words yet still an answer, and repair leads back', () => {
    const rng = new Rng('counterfactual')
    for (const item of cases) {
      const { truth } = item.question
      for (const answer of canonical(item)) {
        for (const unit of unitsOf(item, answer)) {
          const wrong = counterfactual(truth, unit, rng)
          expect(wrong, unit).not.toBeNull()
          expect(judgeUnit(truth, wrong!), wrong!).toMatchObject({ correct: false, decided: true })
          expect(wordDistance(wordsOf(unit), wordsOf(wrong!)), `${unit} -> ${wrong}`).toBeLessThan(
            item.question.task === 'report' ? 9 : 4,
          )
          expect(repair(truth, wrong!)).toBe(unit)
        }
      }
    }
  })

  it('leaves a wrong answer alone', () => {
    const { question } = cases[0]!
    expect(counterfactual(question.truth, question.truth.claim!.present ? 'no' : 'yes', new Rng(1))).toBeNull()
  })

  it('draws the same from the same seed', () => {
    const item = cases.find(({ question }) => question.truth.ask.intent === 'report')!
    const [unit] = unitsOf(item, canonical(item)[0]!)
    const draw = (): unknown => counterfactual(item.question.truth, unit!, new Rng('same'))
    expect(draw()).toEqual(draw())
  })
})

describe('categoryOf', () => {
  it.each([
    ['a nodule', 'no nodule', 'presence'],
    ['nodule', 'opacity', 'finding'],
    ['left upper', 'right upper', 'laterality'],
    ['upper', 'lower', 'location'],
    ['small', 'large', 'size'],
    ['two', 'three', 'count'],
  ])('%s → %s', (before, after, category) => {
    expect(categoryOf(before, after)).toBe(category)
  })
})

describe('readTruth', () => {
  it('finds in a record, after a file, what was put there', () => {
    const [study] = generateStudies({ seed: 2, split: 'test', count: 1 })
    const image = { path: 'a.png', sha256: '0'.repeat(64), width: 96, height: 96 }
    const records = JSON.parse(JSON.stringify(studySamples(study!, image)))
    expect(records.map(({ meta }: Sample) => readTruth(meta))).toEqual(study!.questions.map(({ truth }) => truth))
    expect(sample.array().parse(records)[0]).toMatchObject({ dataset: 'phantom', split: 'test', images: [image] })
  })

  it('refuses another world', () => {
    expect(() => readTruth({})).toThrow(DataError)
    expect(() => readTruth({ truth: { ask: { intent: 'taste', finding: 'nodule' } } })).toThrow(DataError)
  })
})
