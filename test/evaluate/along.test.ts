/** What training does step by step, from numbers that are counted by hand. */
import { describe, expect, it } from 'vitest'
import { alongTraining } from '../../src/evaluate/along.js'
import { publishedTotals } from '../../src/evaluate/questions/published-totals.js'
import type { VerdictRecord } from '../../src/evaluate/records.js'
import type { SystemResults } from '../../src/evaluate/results.js'
import type { RewardResults } from '../../src/evaluate/rewards/summary.js'
import { evaluateStage } from '../../src/evaluate/stage.js'
import { wilson } from '../../src/statistics/index.js'

const system = (name: string, about: Record<string, unknown>, right: number, words: number): SystemResults => ({
  name,
  about: { kind: 'model', model: '../m', ...about },
  groups: [
    {
      ...{ kind: 'overall', name: 'overall', accuracy: wilson(right, 4), weak: 0, words, bounds: null },
      outcomes: { correct: right, incorrect: 4 - right, undecided: 0, unreadable: 0, failed: 0 },
    },
  ],
  published: publishedTotals([]),
  sampled: null,
})
const rewards = (name: string, pairs: string, right: number): RewardResults => {
  const margin = { count: 4, value: 0, interval: null }
  return {
    ...{ system: name, pairs, count: 4, images: 4, seen: null, crossed: null, notCrossed: {} },
    ...{
      accuracy: { answer: wilson(right, 4), phrases: wilson(right, 4) },
      margin: { answer: margin, phrases: margin },
    },
  }
}
const verdicts = ['a', 'b'].flatMap((name) =>
  ['yes', 'in the left lung'].map((reference, i) => ({ system: name, sampleId: `s${i}`, reference }) as VerdictRecord),
)

describe('a run along its steps', () => {
  it('begins with the model alone, in the order of steps, and leaves other systems out', () => {
    const base = system('base', { adapter: null }, 1, 8)
    const late = system('step-100', { adapter: 'r/100', step: 100 }, 3, 2)
    const early = system('step-20', { adapter: 'r/20', step: 20 }, 2, 6)
    const other = system('other', { adapter: 'x' }, 4, 1)
    const file = system('theirs', { kind: 'file' }, 4, 1)
    const measured = [rewards('step-20', 'train', 3), rewards('step-20', 'held', 2), rewards('step-100', 'train', 4)]
    const found = alongTraining({ systems: [base, late, other, file, early], rewards: measured }, verdicts)
    // References of one and of four words.
    expect(found?.referenceWords).toBe(2.5)
    expect(found?.points.map(({ step, accuracy, words }) => [step, accuracy.successes, words])).toEqual([
      [0, 1, 8],
      [20, 2, 6],
      [100, 3, 2],
    ])
    expect(
      found?.points.map((point) => point.rewards.map((each) => [each.pairs, each.accuracy.answer.successes])),
    ).toEqual([
      [],
      [
        ['train', 3],
        ['held', 2],
      ],
      [['train', 4]],
    ])
  })

  it('is null where no system is a step of a run', () => {
    const systems = [system('base', { adapter: null }, 1, 8), system('other', { adapter: 'x' }, 4, 1)]
    expect(alongTraining({ systems, rewards: [] }, verdicts)).toBeNull()
  })

  it('needs the model that was trained', () => {
    const given = { samples: 's.jsonl', out: 'o', run: 'r', predictions: ['p.csv'] }
    expect(() => evaluateStage.check?.(given, () => undefined)).toThrow(/Give the model that was trained/)
  })
})
