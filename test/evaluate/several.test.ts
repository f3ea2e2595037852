/** Greedy and drawn answers to the same questions, counted by hand. */
import { describe, expect, it } from 'vitest'
import type { VerdictRecord } from '../../src/evaluate/records.js'
import { questionPass, sampledResults } from '../../src/evaluate/several.js'

const answers = (sampleId: string, imageId: string, greedy: boolean, drawn: readonly [string, boolean][]) =>
  [['Yes', greedy] as const, ...drawn].map(([text, right], k) => {
    const verdict = right ? 'correct' : 'incorrect'
    return { system: 's', sampleId, imageId, k, sampled: k > 0, text, verdict } as VerdictRecord
  })

const records = [
  ...answers('a', 'i', true, [
    ['Yes', true],
    ['yes.', true],
    ['No', false],
    ['No', false],
  ]),
  ...answers('b', 'j', false, [
    ['left', false],
    ['left', false],
    ['left', false],
    ['right lung', true],
  ]),
  ...answers('c', 'j', true, [
    ['one', true],
    ['one', true],
    ['one', true],
    ['one', true],
  ]),
]

describe('greedy and drawn answers', () => {
  const found = sampledResults(records, 0)

  it('have a greedy accuracy, pass@k of the drawn ones, and what drawing more finds', () => {
    expect(found).toMatchObject({ questions: 3, answers: 4, greedy: { value: 2 / 3 } })
    // pass@2 of two right among four: 1 - 1/6; of one: 1/2.
    const expected = [(1 / 2 + 1 / 4 + 1) / 3, (5 / 6 + 1 / 2 + 1) / 3, 1]
    for (const [i, { value }] of (found?.passAtK ?? []).entries()) expect(value).toBeCloseTo(expected[i], 12)
    expect(found?.passAtK.map(({ k }) => k)).toEqual([1, 2, 4])
    expect(found?.headroom.value).toBeCloseTo(1 - expected[0], 12)
    expect(found?.consistent).toBeCloseTo(1 / 3, 12)
  })

  it('have no interval with fewer than 20 images', () => {
    expect(found?.greedy).toEqual({ count: 3, value: 2 / 3, interval: null })
    expect(found?.headroom.interval).toBeNull()
    expect(found?.passAtK.map(({ interval }) => interval)).toEqual([null, null, null])
  })

  it('have intervals by image that stay within what a share can be', () => {
    // Two questions about each of 20 images; of the first image's all answers are wrong.
    const many = Array.from({ length: 40 }, (_, i) => {
      const isRight = i > 1
      return answers(`q${i}`, `i${i >> 1}`, isRight, [
        ['Yes', isRight],
        ['Yes', isRight],
      ])
    }).flat()
    const { greedy, passAtK, headroom } = sampledResults(many, 7) ?? {}
    // The first image is drawn Bin(20, 1/20) times: never with probability .358, more than 3 times with .016, more than twice with .075.
    for (const each of [greedy, ...(passAtK ?? [])]) {
      expect(each).toMatchObject({ count: 40, value: 0.95, interval: { seed: 7, draws: 10_000, high: 1 } })
      expect(each?.interval?.low).toBeCloseTo(0.85, 12)
    }
    expect(headroom).toMatchObject({ value: 0, interval: { low: 0, high: 0 } })
  })

  it('differ by the drawn answers alone', () => {
    expect(found?.diversity.uniqueShare).toBeCloseTo((2 / 4 + 2 / 4 + 1 / 4) / 3, 12)
    // "yes" twice and "no" twice is one bit; three to one .811 bits; none.
    const threeToOne = -0.75 * Math.log2(0.75) - 0.25 * Math.log2(0.25)
    expect(found?.diversity.entropyBits).toBeCloseTo((1 + threeToOne) / 3, 12)
    expect(found?.diversity.distinct1).toBeCloseTo((2 / 4 + 3 / 5 + 1 / 4) / 3, 12)
    // Only "right lung" has a pair of words.
    expect(found?.diversity.distinct2).toBe(1)
    // Four of six pairs differ in the one word; three of six in both words; none.
    expect(found?.diversity.meanEditDistance).toBeCloseTo((4 / 6 + 3 / 6) / 3, 12)
  })

  it('of each question can be paired with those of another system', () => {
    expect(questionPass(records, 1)).toEqual([
      { sampleId: 'a', imageId: 'i', value: 0.5 },
      { sampleId: 'b', imageId: 'j', value: 0.25 },
      { sampleId: 'c', imageId: 'j', value: 1 },
    ])
  })

  it('are none where each question has one answer; without a greedy one there is none', () => {
    expect(
      sampledResults(
        records.filter(({ k }) => k === 0),
        0,
      ),
    ).toBeNull()
    expect(
      sampledResults(
        records.filter(({ k }) => k > 0),
        0,
      ),
    ).toMatchObject({ answers: 4, greedy: null })
  })
})
