import { describe, expect, it } from 'vitest'
import type { ObjectiveSpec, PairStats } from '../../src/engine/engine.js'
import { averagedTokens, completeObjective, objectiveNames, objectives } from '../../src/engine/objectives.js'
import { metricsRow } from '../../src/train/metrics.js'
import { learningRateFactor, warmupSteps } from '../../src/train/schedule.js'

describe('learningRateFactor', () => {
  const rates = (name: 'cosine' | 'linear' | 'constant', warmup: number, total: number) =>
    Array.from({ length: total }, (_, step) =>
      learningRateFactor({ name, warmupSteps: warmup, warmupRatio: null }, step, total),
    )

  it('follows the three shapes', () => {
    expect(rates('cosine', 0, 3)).toEqual([1, expect.closeTo(0.75, 12), expect.closeTo(0.25, 12)])
    expect(rates('linear', 0, 4)).toEqual([1, 0.75, 0.5, 0.25])
    expect(rates('constant', 2, 4)).toEqual([0, 0.5, 1, 1])
    expect(rates('linear', 2, 4)).toEqual([0, 0.5, 1, 0.5])
  })

  it('rounds a warm-up ratio up', () => {
    expect(warmupSteps({ name: 'cosine', warmupSteps: null, warmupRatio: 0.03 }, 50)).toBe(2)
    expect(warmupSteps({ name: 'cosine', warmupSteps: null, warmupRatio: null }, 50)).toBe(0)
  })
})

describe('metricsRow', () => {
  const stats: PairStats = {
    loss: 0,
    weight: 1,
    base: 0.5,
    visual: 0.9,
    anchor: 0.2,
    nll: 1.5,
    bco: 0,
    anchorVisual: 0,
    consistency: 0,
    margin: 0.3,
    visualMargin: -0.2,
    forwardKl: 2,
    reverseKl: 4,
    rejectedForwardKl: 3,
    policy: { chosen: -1, rejected: -4, corruptedChosen: -2, corruptedRejected: -3 },
    reference: { chosen: -2, rejected: -2, corruptedChosen: -2, corruptedRejected: -2 },
    chosenTokens: 2,
    rejectedTokens: 3,
  }
  const spec = (name: ObjectiveSpec['name']): ObjectiveSpec => ({
    name,
    beta: 0.1,
    alpha: 0.01,
    gamma: 0.1,
    lambda: 0.25,
    klReduction: 'sum',
  })
  const context = {
    step: 1,
    epoch: 0.5,
    lr: 1e-6,
    gradNorm: 3,
    numTokens: 100,
    seconds: 2,
    secondsWaited: 0.5,
    peakHostBytes: 1024,
  }
  const row = (name: ObjectiveSpec['name'], ...pairs: PairStats[]) =>
    metricsRow({ pairs, tokens: 50 }, spec(name), context)

  it('computes rewards, terms and rates', () => {
    expect(row('fire', stats)).toMatchObject({
      'rewards/chosen': 0.1,
      'rewards/rejected': -0.2,
      'rewards/accuracies': 1,
      'rewards/visual/chosen': -0.1,
      'rewards/visual/rejected': 0,
      'rewards/visual/accuracies': 0,
      'loss/base': 0.5,
      'loss/visual': expect.closeTo(0.09, 12),
      'kl/mixed': 3.5,
      'loss/kl': expect.closeTo(0.035, 12),
      phrase_tokens: 5,
      num_tokens: 100,
      tokens_per_second: 25,
      pairs_per_second: 0.5,
    })
  })

  it('leaves out what an objective lacks', () => {
    const dpo = row('dpo', stats)
    for (const key of ['rewards/visual/chosen', 'kl/mixed', 'loss/visual', 'loss/anchor']) {
      expect(dpo).not.toHaveProperty([key])
    }
    // It compares no answers: 0 would say that every one was wrong.
    const sft = Object.keys(row('sft', { ...stats, margin: 0 })).filter((key) => key.startsWith('rewards/'))
    expect(sft).not.toEqual(expect.arrayContaining([expect.stringMatching(/accuracies|margins/)]))
    expect(sft).toContain('rewards/chosen')
    expect(row('mdpo', stats)).toMatchObject({ 'loss/visual': 0.9, 'loss/anchor': 0.2, 'rewards/visual/chosen': 0.1 })
    expect(row('rrpo', { ...stats, reverseKl: Number.NaN })).toMatchObject({ 'kl/mixed': 2, 'loss/kl': 0.02 })
  })

  it('averages visual rewards over the pairs that have a twin, and never writes NaN', () => {
    const none = { chosen: -1, rejected: -4, corruptedChosen: Number.NaN, corruptedRejected: Number.NaN }
    const bare = { ...stats, visual: 0, visualMargin: Number.NaN, policy: none, reference: none }
    const mixed = row('fire', stats, bare)
    expect(mixed['rewards/visual/margins']).toBe(-0.2)
    expect(mixed['loss/visual']).toBeCloseTo(0.045, 12)
    for (const name of objectiveNames) {
      for (const value of Object.values(row(name, bare))) expect(Number.isFinite(value)).toBe(true)
    }
  })

  it('does not count a tie as right', () => {
    expect(row('dpo', { ...stats, margin: 0 })['rewards/accuracies']).toBe(0)
  })
})

describe('the objective table', () => {
  it('weights each term by a coefficient that the objective has', () => {
    for (const [name, { terms, coefficients, forwardKl }] of Object.entries(objectives)) {
      for (const weight of Object.values(terms)) {
        if (typeof weight === 'string') expect(coefficients, name).toHaveProperty(weight)
      }
      if (forwardKl !== null) expect(coefficients, name).toHaveProperty('alpha')
      if (forwardKl === 'lambda') expect(coefficients, name).toHaveProperty('lambda')
    }
  })

  it('has in each objective the coefficients that the engine is given, and nothing else', () => {
    for (const name of objectiveNames) {
      const { klReduction: _, name: __, scope, ...numbers } = completeObjective({ name })
      expect(scope).toBe(objectives[name].scope)
      for (const [key, value] of Object.entries(numbers)) {
        expect(value).toBe((objectives[name].coefficients as Record<string, number>)[key] ?? (key === 'beta' ? 0.1 : 0))
      }
    }
    expect(completeObjective({ name: 'simpo', gamma: 0 })).toMatchObject({ beta: 2, gamma: 0, scope: 'completion' })
  })

  it('counts the tokens of a step that a likelihood is averaged over', () => {
    const pair = { chosen: Int32Array.of(4, 5, 6), chosenMask: Uint8Array.of(0, 1, 0) }
    const tokens = (name: ObjectiveSpec['name'], scope?: 'phrase') => averagedTokens([pair, pair], { name, scope })
    expect([tokens('mpo'), tokens('cpo'), tokens('orpo'), tokens('dpo-nll')]).toEqual([6, 6, 6, 0])
    expect([tokens('mpo', 'phrase'), tokens('cpo', 'phrase'), tokens('orpo', 'phrase')]).toEqual([6, 2, 2])
  })
})
