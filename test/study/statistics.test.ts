/** What may be concluded over seeds: nothing from labels that mean nothing, and nothing from cells that are missing. */
import { describe, expect, it } from 'vitest'
import type { RewardRecord, VerdictRecord } from '../../src/evaluate/records.js'
import { Rng } from '../../src/phantom/rng.js'
import { compareArms } from '../../src/study/compare.js'
import { drawnMeasures, rewardMeasures } from '../../src/study/further.js'
import type { Study } from '../../src/study/load.js'
import type { RunNumbers } from '../../src/study/numbers.js'
import { tableResults } from '../../src/study/results.js'
import { smallStudy } from './small.js'

const seeds = [0, 1, 2]
const arms = ['base', 'dpo', 'fire', 'mdpo']
const images = 40
const perImage = 3

function draws(seed: number): () => number {
  const rng = new Rng(seed)
  return () => rng.float()
}

/** Accuracies of the arms, on images that differ in difficulty. */
function runsOf(random: () => number, accuracy: (arm: string) => number): RunNumbers[] {
  return seeds.flatMap((seed) => {
    const hardness = Array.from({ length: images }, () => 0.3 * (random() - 0.5))
    return arms.map((arm): RunNumbers => {
      const answers = hardness.flatMap((hard, image) =>
        Array.from({ length: perImage }, (_, i) => ({
          id: `${image}-${i}`,
          imageId: `${image}`,
          closedUnder: { answerType: i % 2 === 0, yesNoExact: i % 2 === 0, paperSubstring: i % 2 === 0 },
          isRight: random() < accuracy(arm) + hard,
        })),
      )
      return {
        arm,
        seed,
        state: 'done',
        why: null,
        steps: [],
        tuned: null,
        groups: null,
        words: null,
        sampled: null,
        rewards: [],
        unfinished: [],
        measured: {},
        answers,
      }
    })
  })
}

/** Every question's answers handed to the arms anew. */
function permuted(runs: readonly RunNumbers[], random: () => number): RunNumbers[] {
  const changed = structuredClone(runs) as RunNumbers[]
  for (const seed of seeds) {
    const own = changed.filter((run) => run.seed === seed)
    for (let q = 0; q < images * perImage; q += 1) {
      const rights = own.map(({ answers }) => answers?.[q].isRight ?? false)
      for (let i = rights.length - 1; i > 0; i -= 1) {
        const j = Math.floor(random() * (i + 1))
        ;[rights[i], rights[j]] = [rights[j], rights[i]]
      }
      for (const [i, { answers }] of own.entries()) if (answers) answers[q].isRight = rights[i]
    }
  }
  return changed
}

const study = {
  ...smallStudy,
  tables: {
    all: {
      ...smallStudy.tables.objectives,
      arms,
      evaluations: [],
      lines: [],
      primary: { arm: 'fire', baseline: 'dpo', metric: 'overall' },
    },
  },
  ...{ seeds, margin: 0.03, draws: 100, small: false },
} as unknown as Study

const found = (runs: readonly RunNumbers[]): string[] => {
  const { comparisons } = tableResults(study, 'all', arms, runs)
  return comparisons
    .filter(({ metric, conclusion }) => metric === 'overall' && (conclusion === 'gain' || conclusion === 'loss'))
    .map(({ arm }) => arm)
}

describe('tables of arms', () => {
  it('find a large difference', () => {
    const runs = runsOf(draws(1), (arm) => (arm === 'fire' ? 0.85 : 0.5))
    expect(found(runs)).toContain('fire')
  })

  it('find nothing where labels are permuted, in all but the share that Holm allows', () => {
    const random = draws(2)
    const runs = runsOf(random, (arm) => (arm === 'fire' ? 0.85 : 0.5))
    const rounds = 100
    let findings = 0
    for (let round = 0; round < rounds; round += 1) findings += Number(found(permuted(runs, random)).length > 0)
    // 5 % of 100, and 2 standard errors of a share of 5 %.
    expect(findings).toBeLessThanOrEqual(9)
  })

  it('conclude nothing, and average nothing, where a seed is missing', () => {
    const runs = runsOf(draws(3), (arm) => (arm === 'fire' ? 0.95 : 0.3))
    const cut = runs.map(
      (run): RunNumbers =>
        run.arm === 'fire' && run.seed === 2 ? { ...run, state: 'missing', why: 'not begun', answers: null } : run,
    )
    const { primary, comparisons } = tableResults(study, 'all', arms, cut)
    expect(primary).toMatchObject({ difference: null, p: null, conclusion: 'missing' })
    expect(comparisons.find(({ arm }) => arm === 'fire')).toMatchObject({ conclusion: 'missing' })
    expect(comparisons.find(({ arm }) => arm === 'dpo')?.difference).not.toBeNull()
  })

  it('say that an arm and itself are equivalent', () => {
    const runs = runsOf(draws(4), () => 0.6)
    const same = runs.filter(({ arm }) => arm === 'dpo').map((run) => ({ ...run, arm: 'twin' }))
    const compared = compareArms({ arm: 'twin', baseline: 'dpo', metric: 'overall' }, [...runs, ...same], study)
    expect(compared.difference).toEqual({ value: 0, low: 0, high: 0 })
    expect(compared.conclusion).toBe('equivalent')
  })
})

describe('measures beside accuracy', () => {
  it('are of drawn answers: pass@k less pass@1, and distinct answers', () => {
    const answer = (sampleId: string, k: number, text: string, isRight: boolean) =>
      ({ sampleId, imageId: 'i', k, sampled: k > 0, text, verdict: isRight ? 'correct' : 'incorrect' }) as VerdictRecord
    const records = [
      // The greedy answers do not count.
      ...[answer('a', 0, 'x', true), answer('b', 0, 'x', true)],
      ...['left', 'Left.', 'right', 'both'].map((text, i) => answer('a', i + 1, text, text === 'right')),
      ...['no', 'no', 'no', 'no'].map((text, i) => answer('b', i + 1, text, false)),
    ]
    expect(drawnMeasures(records, 4)).toEqual({
      headroom: [
        { id: 'a', cluster: 'i', value: 0.75 },
        { id: 'b', cluster: 'i', value: 0 },
      ],
      uniqueShare: [
        { id: 'a', cluster: 'i', value: 0.75 },
        { id: 'b', cluster: 'i', value: 0.25 },
      ],
    })
  })

  it('are of rewards: right above wrong in both mixtures of styles, strictly', () => {
    const pair = (pairId: string, rewards: readonly number[]) => {
      const [chosen, rejected, right, wrong] = rewards.map((each) => ({ answer: each, phrases: 0, words: 1 }))
      const references = { referenceRight: right ?? null, referenceWrong: wrong ?? null }
      return { pairId, imageId: 'i', chosen, rejected, ...references } as RewardRecord
    }
    // Content decides; the own style does; the reference's does; one without a reference.
    const records = [pair('c', [3, 1, 4, 2]), pair('o', [9, 8, 2, 1]), pair('r', [2, 1, 9, 8]), pair('n', [2, 1])]
    expect(rewardMeasures(records).contentOverStyle?.map(({ id, value }) => [id, value])).toEqual([
      ['c', 1],
      ['o', 0],
      ['r', 0],
    ])
  })

  it('are compared as accuracies are, and only among arms that have them', () => {
    const random = draws(5)
    const runs = runsOf(random, () => 0.5).map((run): RunNumbers => {
      if (run.arm === 'base') return run
      const headroom = (run.answers ?? []).map(({ id, imageId: cluster }) => {
        return { id, cluster, value: (run.arm === 'fire' ? 0.5 : 0.1) + 0.1 * random() }
      })
      return { ...run, measured: { headroom } }
    })
    const primary = { arm: 'fire', baseline: 'dpo', metric: 'headroom' }
    const tables = { all: { ...study.tables.all, baseline: 'dpo', primary } } as Study['tables']
    const results = tableResults({ ...study, tables }, 'all', arms, runs)
    expect(results.primary?.conclusion).toBe('gain')
    expect(results.primary?.difference?.value).toBeCloseTo(0.4, 1)
    const compared = results.comparisons.filter(({ metric }) => metric === 'headroom')
    expect(compared.map(({ arm }) => arm)).toEqual(['fire', 'mdpo'])
  })
})
