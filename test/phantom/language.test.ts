import { describe, expect, it } from 'vitest'
import {
  counterfactual,
  type EditProposal,
  generateStudies,
  judge,
  Rng,
  repair,
  type Study,
  type StudyQuestion,
} from '../../src/phantom/index.js'
import { answerStyles, possibleClaims, sayClaim, sayReport } from '../../src/phantom/language.js'
import { isClosed, possibleAsks, terseAnswer, truthOf } from '../../src/phantom/questions.js'

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

function apply(answer: string, edits: readonly EditProposal[]): string {
  return [...edits]
    .sort((a, b) => b.start - a.start)
    .reduce((text, edit) => text.slice(0, edit.start) + edit.replacement + text.slice(edit.end), answer)
}

function checkSpans(answer: string, edits: readonly EditProposal[]): void {
  let free = 0
  for (const edit of edits) {
    expect(edit.start).toBeGreaterThanOrEqual(free)
    expect(edit.end).toBeGreaterThan(edit.start)
    expect(edit.end).toBeLessThanOrEqual(answer.length)
    expect(edit.replacement.length).toBeGreaterThan(0)
    expect(edit.replacement).not.toBe(answer.slice(edit.start, edit.end))
    expect(edit.replacement.trim()).toBe(edit.replacement)
    free = edit.end
  }
}

describe('judge', () => {
  it('agrees with every true sentence and with the terse reference', () => {
    expect(cases.length).toBeGreaterThan(3000)
    for (const item of cases) {
      for (const answer of canonical(item)) {
        const verdict = judge(item.study, item.question, answer)
        expect(verdict, `${answer} ${JSON.stringify(item.question.truth.ask)}`).toMatchObject({
          correct: true,
          decided: true,
        })
      }
      if (item.question.task === 'vqa')
        expect(judge(item.study, item.question, item.question.answer).correct).toBe(true)
    }
  })

  it('rejects every other claim, and marks as undecided what does not answer', () => {
    for (const { study, question } of cases) {
      const { ask, claim } = question.truth
      if (ask.intent === 'report') continue
      for (const other of possibleClaims(ask.intent)) {
        const same = sayClaim(ask, other, 0) === sayClaim(ask, claim!, 0)
        expect(judge(study, question, sayClaim(ask, other, 0)).correct).toBe(same)
      }
      for (const empty of ['', '   ', 'The film is of good quality.', 'Yes, there is no such thing.']) {
        if (ask.intent === 'presence' && empty.startsWith('The')) continue
        expect(judge(study, question, empty).correct && ask.intent !== 'side-check').toBe(false)
      }
    }
  })

  it('reads other wordings', () => {
    const { study, question } = cases.find(
      ({ question: q }) => q.truth.ask.intent === 'presence' && !q.truth.claim!.present,
    )!
    expect(judge(study, question, 'no')).toMatchObject({ correct: true })
    expect(judge(study, question, 'YES')).toMatchObject({ correct: false, decided: true })
    expect(judge(study, question, 'Yes, it is absent.')).toMatchObject({ correct: false, decided: false })
  })
})

describe('repair', () => {
  it('makes any false sentence right, and touches only its spans', () => {
    const rng = new Rng('repair')
    let repaired = 0
    for (const { study, question } of cases) {
      const { ask, claim } = question.truth
      const answer =
        ask.intent === 'report'
          ? sayReport(ask.scope, rng.pick(cases).study.findings, rng.int(2))
          : sayClaim(ask, rng.pick(possibleClaims(ask.intent)), rng.int(3))
      const edits = repair(study, question, answer)
      if (judge(study, question, answer).correct) {
        expect(edits).toBeNull()
        continue
      }
      expect(edits, `${answer} ${JSON.stringify(claim)}`).not.toBeNull()
      checkSpans(answer, edits!)
      expect(judge(study, question, apply(answer, edits!)).correct, `${answer} -> ${apply(answer, edits!)}`).toBe(true)
      repaired++
    }
    expect(repaired).toBeGreaterThan(2000)
  })

  it('does not pretend to know a minimal edit of a foreign sentence', () => {
    const { study, question } = cases[0]!
    const wrong = question.truth.claim!.present ? 'I would say no' : 'I would say yes'
    expect(repair(study, question, wrong)).toBeNull()
  })

  it('keeps offsets true under surrounding space', () => {
    const { study, question } = cases.find(({ question: q }) => q.truth.ask.intent === 'side')!
    const wrong = question.truth.claim!.side === 'left' ? 'right' : 'left'
    const noun = question.concept
    const edits = repair(study, question, `  The ${noun} is on the ${wrong} side. `)!
    expect(apply(`  The ${noun} is on the ${wrong} side. `, edits)).toBe(
      `  The ${noun} is on the ${question.truth.claim!.side} side. `,
    )
    expect(edits).toMatchObject([{ category: 'laterality' }])
  })
})

describe('counterfactual', () => {
  it('makes any true sentence wrong yet still an answer, and repair leads back', () => {
    const rng = new Rng('counterfactual')
    for (const item of cases) {
      const { study, question } = item
      for (const answer of canonical(item)) {
        const edits = counterfactual(study, question, answer, rng)
        expect(edits, answer).not.toBeNull()
        checkSpans(answer, edits!)
        const wrong = apply(answer, edits!)
        expect(judge(study, question, wrong), wrong).toMatchObject({ correct: false, decided: true })
        expect(apply(wrong, repair(study, question, wrong)!)).toBe(answer)
      }
    }
  })

  it('leaves a wrong answer alone', () => {
    const { study, question } = cases[0]!
    expect(counterfactual(study, question, question.truth.claim!.present ? 'no' : 'yes', new Rng(1))).toBeNull()
  })

  it('draws the same edits from the same seed', () => {
    const item = cases.find(({ question }) => question.truth.ask.intent === 'report')!
    const answer = canonical(item)[0]!
    const draw = (): unknown => counterfactual(item.study, item.question, answer, new Rng('same'))
    expect(draw()).toEqual(draw())
  })
})
