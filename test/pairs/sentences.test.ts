import { describe, expect, it } from 'vitest'
import { constructPair, RulesProvider } from '../../src/pairs/index.js'
import { readAnswer } from '../../src/pairs/rules/judge.js'
import { makeTask } from './records.js'
import { isHarmful, readSentences } from './sentences.js'

const context = { provider: new RulesProvider(), blindJudge: null, mode: 'on-policy', seed: 1 } as const

describe.each([
  ['sentences', 0.65],
  ['scopes', 0.5],
] as const)('the labelled %s', (name, leastYield) => {
  const all = readSentences(name)

  it('are read as they are labelled, or not at all', () => {
    const misread = all.filter(({ question, reference, label, text }) => {
      const { decided, correct } = readAnswer({ task: 'vqa', question, reference, text })
      return decided && label !== (correct ? 'correct' : 'incorrect')
    })
    expect(misread).toEqual([])
  })

  it('become pairs, none of them harmful', async () => {
    const harmful: unknown[] = []
    let made = 0
    for (const sentence of all) {
      const { pair } = await constructPair(makeTask(sentence.question, sentence.reference, sentence.text), context)
      if (!pair) continue
      if (isHarmful(sentence, pair)) harmful.push([sentence, pair.chosen, pair.rejected])
      else made++
    }
    expect(harmful).toEqual([])
    expect(made / all.filter(({ label }) => label !== 'undecided').length).toBeGreaterThan(leastYield)
  })
})
