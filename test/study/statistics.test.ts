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

type Answers = NonNullable<RunNumbers['answers']>

const runOf = (arm: string, seed: number, answers: Answers): RunNumbers => ({
  ...{ arm, seed, state: 'done', why: null, steps: [], tuned: null, groups: null, words: null },
  ...{ seen: 0, sampled: null, rewards: [], unfinished: [], answers, measured: {} },
})

const answersOf = (isRight: (image: number, question: number) => boolean): Answers =>
  Array.from({ length: images * perImage }, (_, q) => {
    const [image, i] = [Math.floor(q / perImage), q % perImage]
    const isClosed = i % 2 === 0
    const closedUnder = { answerType: isClosed, yesNoExact: isClosed, paperSubstring: isClosed }
    return { id: `${q}`, imageId: `${image}`, closedUnder, isRight: isRight(image, q) }
  })

/** Accuracies of the arms, on images that differ in difficulty; a new world for every seed. */
function runsOf(random: () => number, accuracy: (arm: string) => number): RunNumbers[] {
  return seeds.flatMap((seed) => {
    const hardness = Array.from({ length: images }, () => 0.3 * (random() - 0.5))
    return arms.map((arm) =>
      runOf(
        arm,
        seed,
        answersOf((image) => random() < accuracy(arm) + hardness[image]),
      ),
    )
  })
}

/** One test set for all seeds; arms are equal but for luck, which is of the images and hardly differs between seeds. */
function fixedSet(names: readonly string[], random: () => number): RunNumbers[] {
  return names.flatMap((arm) => {
    const luck = Array.from({ length: images }, () => 0.6 * (random() - 0.5))
    const rights = answersOf((image) => random() < 0.5 + luck[image]).map(({ isRight }) => isRight)
    return seeds.map((seed) =>
      runOf(
        arm,
        seed,
        answersOf((_, q) => (random() < 0.02 ? !rights[q] : rights[q])),
      ),
    )
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

const found = (runs: readonly RunNumbers[], of = study, names: readonly string[] = arms): string[] => {
  const { comparisons } = tableResults(of, 'all', names, runs)
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
    expect(findings).toBeLessThanOrEqual(7)
  })

  it('find nothing on a fixed test set whose luck all seeds share, in all but the share that Holm allows', () => {
    const random = draws(7)
    const names = Array.from({ length: 7 }, (_, i) => `arm${i}`)
    const table = { ...study.tables.all, arms: names, baseline: 'arm0' }
    const primary = { ...table.primary, arm: 'arm1', baseline: 'arm0' }
    const of = { ...study, draws: 50, tables: { all: { ...table, primary } } }
    const rounds = 100
    let findings = 0
    for (let round = 0; round < rounds; round += 1)
      findings += Number(found(fixedSet(names, random), of, names).length > 0)
    expect(findings).toBeLessThanOrEqual(7)
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

describe('two arms', () => {
  const compare = (before: Answers[], after: Answers[], margin = 0.03) => {
    const runs = before.flatMap((answers, seed) => [runOf('a', seed, answers), runOf('b', seed, after[seed])])
    const options = { ...study, seeds: before.map((_, seed) => seed), margin }
    return compareArms({ arm: 'b', baseline: 'a', metric: 'overall' }, runs, options)
  }

  it('count as one seed where all seeds came to the same', () => {
    const before = answersOf((image) => image % 2 === 0)
    const after = answersOf((image) => image % 2 === 0 || image === 1)
    // One image of 40 is all that differs: its sign is + or −, and both are as far from 0.
    const one = compare([before], [after])
    const three = compare([before, before, before], [after, after, after])
    expect(one.p).toBe(1)
    expect(three).toMatchObject({ p: 1, marginP: null, conclusion: one.conclusion })
  })

  it('are not equivalent where few seeds differ too much to tell, whatever the interval says', () => {
    const before = answersOf(() => false)
    // 0, 0 and 4 of 120 questions: within ±5 points, and the t interval is 1.1 ± 4.8.
    const after = [0, 0, 4].map((count) => answersOf((_, q) => q % perImage === 0 && q < count * perImage))
    const { difference, marginP, conclusion } = compare([before, before, before], after, 0.05)
    expect(difference?.high).toBeLessThan(0.05)
    expect(marginP).toBeGreaterThan(0.05)
    expect(conclusion).toBe('not_resolved')
  })

  it('are not compared where one answered other questions or saw other images', () => {
    const answers = answersOf(() => true)
    const otherImages = answers.map((answer) => ({ ...answer, imageId: `${answer.imageId}*` }))
    expect(compare([answers], [otherImages])).toMatchObject({ difference: null, conclusion: 'other_questions' })
    expect(compare([answers], [answers.slice(1)])).toMatchObject({ conclusion: 'other_questions' })
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
