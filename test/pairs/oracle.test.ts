/** The word rules against a world whose truth is known and whose judge has nothing to do with them. */
import { describe, expect, it } from 'vitest'
import { constructPair, RulesProvider } from '../../src/pairs/index.js'
import { generateStudies, judge } from '../../src/phantom/index.js'
import { sayReport, statements } from '../../src/phantom/language.js'
import { makeTask } from './records.js'

const context = { provider: new RulesProvider(), blindJudge: null, mode: 'on-policy', seed: 1 } as const
const studies = generateStudies({ seed: 5, split: 'train', count: 60 })

describe('pairs of the phantom world', () => {
  it('have a right chosen and a wrong rejected side, for every sentence that answers a question', {
    timeout: 120_000,
  }, async () => {
    const wrong: unknown[] = []
    const counts = { answers: 0, pairs: 0, decided: 0 }
    for (const study of studies) {
      for (const question of study.questions) {
        const { ask } = question.truth
        if (ask.intent === 'report') continue
        for (const text of statements(ask).keys()) {
          const { pair } = await constructPair(makeTask(question.question, question.answer, text), context)
          // Of answers about something else than was asked nothing can be made.
          if (judge(question.truth, text).decided) counts.answers++
          if (!pair) continue
          counts.pairs++
          const [chosen, rejected] = [judge(question.truth, pair.chosen), judge(question.truth, pair.rejected)]
          if (chosen.decided && rejected.decided) counts.decided++
          if ((chosen.decided && !chosen.correct) || rejected.correct) {
            wrong.push([question.question, question.answer, pair.chosen, pair.rejected])
          }
        }
      }
    }
    expect(wrong).toEqual([])
    expect(counts.answers).toBeGreaterThan(1000)
    expect(counts.pairs / counts.answers).toBeGreaterThan(0.85)
    expect(counts.decided / counts.pairs).toBeGreaterThan(0.95)
  })

  it('change a true report into a false one, and mend nothing that is true', async () => {
    let made = 0
    for (const study of studies) {
      for (const question of study.questions) {
        const { ask, findings } = question.truth
        if (ask.intent !== 'report') continue
        const [reference, text] = [sayReport(ask.scope, findings, 0), sayReport(ask.scope, findings, 1)]
        const { pair } = await constructPair(makeTask(question.question, reference, text, { task: 'report' }), context)
        if (!pair) continue
        made++
        expect(pair.origin).toBe('counterfactual')
        expect(judge(question.truth, pair.chosen).correct, pair.chosen).toBe(true)
        expect(judge(question.truth, pair.rejected).correct, pair.rejected).toBe(false)
      }
    }
    expect(made).toBeGreaterThan(20)
  })
})
