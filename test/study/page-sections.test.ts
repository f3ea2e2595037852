/** The plots of a study's pages: numbers in their tables against those computed by hand. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Section } from '../../src/evaluate/page/table.js'
import { coefficientsSection } from '../../src/study/page/coefficients-section.js'
import { corruptionSection } from '../../src/study/page/corruption-section.js'
import { dynamicsSection } from '../../src/study/page/dynamics-section.js'
import { groundingSection } from '../../src/study/page/grounding-section.js'
import { methodSection } from '../../src/study/page/method-section.js'
import { publishedSection } from '../../src/study/page/published-section.js'
import { writePages } from '../../src/study/page/render.js'
import { rewardHackingSection } from '../../src/study/page/reward-hacking-section.js'
import { styleGapSection } from '../../src/study/page/style-gap-section.js'
import { tradeOffSection } from '../../src/study/page/trade-off-section.js'
import { temporaryFolder } from '../fakes/world.js'
import { armOf, inputOf, pairOf, readCsv, writeImage, writeStep } from './page-world.js'

const rowsOf = (section: Section | null, name: string) =>
  readCsv(section?.tables.find((table) => table.name === name)?.csv ?? '')

const untrained = { sample: null, pairs: null, corrupt: null, train: null }

const sections = { dynamicsSection, coefficientsSection, publishedSection, corruptionSection, styleGapSection }
const more = { tradeOffSection, groundingSection, rewardHackingSection }

it.each(Object.entries({ ...sections, ...more }))('%s has nothing to show of an empty study', async (_, section) => {
  const root = await temporaryFolder()
  expect(await section(inputOf(root, [armOf('base', { set: untrained }), armOf('fire')]))).toBeNull()
})

describe('training', () => {
  const row = (step: number, accuracy: number, kl?: number) => ({
    ...{ step, epoch: 0, loss: 1, grad_norm: step, tokens_per_second: 9 },
    ...{ 'rewards/accuracies': accuracy, 'rewards/margins': 2 * accuracy, 'loss/base': 0.5 },
    ...(kl !== undefined && { 'loss/kl': kl }),
  })

  it('has every step of every seed, and means of arms whose seeds are all there', async () => {
    const root = await temporaryFolder()
    await writeStep(root, 'train-f0', {}, { 'metrics.jsonl': [row(1, 0.25, 0.01), row(2, 0.5, 0.02)] })
    await writeStep(root, 'train-f1', {}, { 'metrics.jsonl': [row(1, 0.75, 0.03), row(2, 1, 0.04)] })
    await writeStep(root, 'train-d0', {}, { 'metrics.jsonl': [row(1, 0.1), row(2, 0.2), { step: 2, eval_loss: 1 }] })
    const arms = [
      armOf('base', { set: untrained }),
      armOf('dpo', { steps: [['train-d0'], ['train-d1']] }),
      armOf('fire', { steps: [['train-f0'], ['train-f1']] }),
    ]
    const section = await dynamicsSection(inputOf(root, arms))
    const steps = rowsOf(section, 'training')
    expect(steps).toHaveLength(6)
    expect(steps.find(({ arm, seed, step }) => arm === 'fire' && seed === '1' && step === '2')).toMatchObject({
      'rewards/accuracies': '1',
      'loss/kl': '0.04',
    })
    expect(Object.keys(steps[0])).not.toContain('tokens_per_second')
    const means = rowsOf(section, 'training-means')
    expect(means.map(({ arm }) => arm)).toEqual(['fire', 'fire'])
    expect(means.map((each) => Number(each['rewards/accuracies']))).toEqual([0.5, 0.75])
    expect(Number(means[1]['loss/kl'])).toBeCloseTo(0.03, 12)
    const markup = section?.html.markup ?? ''
    expect(markup).toContain('role="img"')
    expect(markup).toMatch(/aria-label="Reward accuracy on the training pairs[^"]*fire 0.75/)
    expect(markup).toContain('Loss: KL')
  })
})

describe('accuracy over one number', () => {
  const trained = async (root: string, name: string, lambda: number) => {
    await writeStep(root, name, { 'objective.lambda': lambda, 'objective.name': 'fire' }, {})
    return [[name], [name]]
  }

  it('finds arms that differ in one coefficient, with the value of the training where the arm does not set it', async () => {
    const root = await temporaryFolder()
    const set = (lambda: number) => ({ 'train.objective.lambda': lambda })
    const arms = [
      armOf('one', { set: set(1), right: [8, 8], steps: await trained(root, 'train-1', 1) }),
      armOf('fire', { right: [5, 7], steps: await trained(root, 'train-h', 0.5) }),
      armOf('none', { set: set(0), right: [6, undefined], steps: await trained(root, 'train-0', 0) }),
      armOf('other', { set: { ...set(0.2), 'corrupt.method': 'crop' }, steps: await trained(root, 'train-o', 0.2) }),
      armOf('tuned', { set: set(0.3), tuned: 1, steps: await trained(root, 'train-t', 0.3) }),
    ]
    const rows = rowsOf(await coefficientsSection(inputOf(root, arms)), 'coefficients')
    expect(rows.map(({ line, arm, value, overall }) => [line, arm, value, overall])).toEqual([
      ['λ', 'none', '0', ''],
      ['λ', 'fire', '0.5', '0.6'],
      ['λ', 'one', '1', '0.8'],
    ])
    const two = await coefficientsSection(inputOf(root, arms.slice(0, 2)))
    expect(two).toBeNull()
  })

  it('draws the lines of the file, in the order of their numbers', async () => {
    const arms = [armOf('long', { right: [9, 9] }), armOf('short', { right: [4, 6] })]
    const lines = [{ label: 'steps', arms: { long: 81, short: 9, absent: 3 } }]
    const rows = rowsOf(await coefficientsSection(inputOf('', arms, { lines })), 'coefficients')
    expect(rows.map(({ line, arm, value }) => [line, arm, value])).toEqual([
      ['steps', 'short', '9'],
      ['steps', 'long', '81'],
    ])
  })
})

describe('published rows', () => {
  it('are found by key, one row for one run under several names', () => {
    const arms = [
      armOf('fire', { row: 'main/fire; kl/fire; corruption/lesion' }),
      armOf('words', { row: 'some table' }),
    ]
    const rows = rowsOf(publishedSection(inputOf('', arms)), 'published')
    expect(rows.map(({ source, rows: keys }) => [source, keys])).toEqual([
      ['this study', ''],
      ['published', 'main/fire; kl/fire; corruption/lesion'],
      ['published', 'main/fire'],
    ])
    // 723 of 1061; Wilson: (k + z²/2 ∓ z √(k (n - k) / n + z²/4)) / (n + z²), z = 1.959964.
    expect(rows[1]).toMatchObject({ slake_value: '68.14', slake_successes: '723', slake_count: '1061' })
    expect(Number(rows[1].slake_low)).toBeCloseTo(65.28, 1)
    expect(Number(rows[0].overall)).toBeCloseTo(60, 12)
  })

  it('have a count where one gives the printed value, and keep the reading that the file names', () => {
    const arms = [armOf('crop', { row: 'corruption/crop (as it is)' })]
    const [, row] = rowsOf(publishedSection(inputOf('', arms)), 'published')
    // 595 and 596 of 1061 are 56.08 and 56.17 %; 265 of 451 is 58.76 %.
    expect(row).toMatchObject({ rows: 'corruption/crop (as it is)', slake_value: '56.13', slake_successes: '' })
    expect(row).toMatchObject({ vqaRad_value: '58.76', vqaRad_successes: '265', model: 'HuatuoGPT-Vision-7B' })
  })
})

describe('corrupted twins', () => {
  const report = (method: string, targeted: number, methods: Record<string, number>) => ({
    ...{ pairs: 10, skipped: 1, failed: 1, methods, targeted: { pairs: targeted, absent: targeted === 0 ? 0 : 2 } },
    settings: { method, sigma: 45 },
  })

  it('are shown for one image, with the share of pairs changed at the lesion alone', async () => {
    const root = await temporaryFolder()
    for (const [method, grey] of [
      ['lesion-noise', 90],
      ['lesion-noise-elsewhere', 120],
      ['crop', 150],
    ] as const) {
      const folder = await writeStep(
        root,
        `corrupt-${method}`,
        {},
        {
          'report.json': report(method, method === 'crop' ? 0 : 6, { [method]: 6, 'image-noise': 2 }),
        },
      )
      const clean = await writeImage(folder, 'clean.png', 30)
      const twin = await writeImage(folder, 'twin.png', grey)
      await writeImage(folder, 'mask.png', 255)
      const corrupted = { images: [twin], method, sigma: 45, seed: 1, masks: method === 'crop' ? [] : ['mask.png'] }
      const pair = pairOf('a#0', 'A nodule.', 'No nodule.', { images: [clean], corrupted })
      await writeStep(root, `corrupt-${method}`, {}, { 'pairs.jsonl': [pair, pairOf('b#0', 'x', 'y')] })
    }
    const steps = (method: string) => ({ steps: [[`corrupt-${method}`], [`corrupt-${method}`]] })
    const arms = [
      armOf('base', { set: untrained }),
      armOf('fire', steps('lesion-noise')),
      armOf('dpo', steps('lesion-noise')),
      armOf('control', steps('lesion-noise-elsewhere')),
      armOf('crop', steps('crop')),
    ]
    const section = await corruptionSection(inputOf(root, arms))
    const rows = rowsOf(section, 'corruption')
    // Two of six pairs have no lesion: the place that is asked about is changed.
    const cells = rows.map(({ arms: names, withTwins, targeted, share, targetedAbsent }) => {
      return [names, withTwins, targeted, share, targetedAbsent]
    })
    expect(cells).toEqual([
      ['fire dpo', '16', '8', '0.5', '4'],
      ['control', '16', '0', '0', '0'],
      ['crop', '16', '0', '0', '0'],
    ])
    expect(section?.html.markup.match(/class="picture"/g)).toHaveLength(4)
    expect(section?.html.markup).toContain('the image under lesion-noise, σ 45')
  })
})

describe('style of the two sides', () => {
  it('counts words, their distance and lengths over all seeds', async () => {
    const root = await temporaryFolder()
    const first = [pairOf('a', 'left lung', 'right lung'), pairOf('b', 'yes', 'no')]
    await writeStep(root, 'pairs-0', { mode: 'reference-chosen' }, { 'pairs.jsonl': first })
    const second = [pairOf('c', 'no', 'there is a large nodule')]
    await writeStep(root, 'pairs-1', { mode: 'reference-chosen' }, { 'pairs.jsonl': second })
    await writeStep(root, 'pairs-held-out', { mode: 'reference-chosen' }, { 'pairs.jsonl': first })
    const steps = [
      ['pairs-0', 'pairs-held-out'],
      ['pairs-1', 'pairs-held-out'],
    ]
    const arms = [armOf('base', { set: untrained }), armOf('dpo', { row: 'pairs/gt-style', steps })]
    const section = await styleGapSection(inputOf(root, arms))
    const [ours, slake] = rowsOf(section, 'style-gap')
    expect(ours).toMatchObject({ pairs: 'reference-chosen', count: '3' })
    expect(Number(ours.chosenWords)).toBeCloseTo(4 / 3, 3)
    expect(Number(ours.rejectedWords)).toBeCloseTo(8 / 3, 3)
    expect(Number(ours.meanDifference)).toBeCloseTo(4 / 3, 12)
    expect(Number(ours.withinTwo)).toBeCloseTo(2 / 3, 12)
    // One of two words, one of one, five of five.
    expect(Number(ours.wordsChanged)).toBeCloseTo((0.5 + 1 + 1) / 3, 12)
    expect(slake).toMatchObject({ chosenWords: '1.7', rejectedWords: '13.5', withinTwo: '0.01' })
    const lengths = rowsOf(section, 'pair-lengths').map((each) => [each.wordsFrom, each.chosen, each.rejected])
    expect(lengths).toEqual([
      ['0', '0', '0'],
      ['1', '2', '1'],
      ['2', '1', '1'],
      ['3', '0', '0'],
      ['4', '0', '0'],
      ['5', '0', '1'],
    ])
  })
})

/** As much of an evaluation as is read. */
const evaluationOf = (more: { sampled?: unknown; grounding?: unknown }) => ({
  'evaluation.json': {
    made: { at: '2026-01-01', machine: 'm' },
    ...{ baseline: 'a', judging: { first: 'truth', description: 'x' }, inputs: { samples: 'x', imageRoot: 'x' } },
    systems: [{ name: 'a', about: {}, groups: [], sampled: more.sampled ?? null }],
    grounding: more.grounding ?? null,
  },
})

const verdictOf = (sampleId: string, k: number, isRight: boolean, reference = 'on the left') => ({
  ...{ system: 'a', sampleId, k, sampled: k > 0, imageId: sampleId, dataset: 'd', answerType: 'open', seenImage: null },
  groups: {},
  closedUnder: { answerType: false, yesNoExact: false, paperSubstring: false },
  ...{ question: 'q', reference, text: 't', said: 't', verdict: isRight ? 'correct' : 'incorrect' },
  ...{ strength: 'strong', by: 'truth', reason: 'r', rule: null, judge: null, second: null, parity: null },
})

describe('one answer and several', () => {
  it('takes pass@1 and pass@4 from the verdicts of every seed', async () => {
    const root = await temporaryFolder()
    const diversity = (uniqueShare: number) => ({
      ...{ uniqueShare, entropyBits: 1, distinct1: 0.5, distinct2: 0.6, meanEditDistance: 0.7 },
    })
    const sampled = (share: number) => ({
      ...{ questions: 2, answers: 4, passAtK: [], consistent: 0.5, diversity: diversity(share) },
    })
    const verdicts = (right: readonly number[]) => ({
      'verdicts.jsonl': right.flatMap((count, question) =>
        // The greedy answer, k = 0, is right and does not count among the drawn ones.
        [0, 1, 2, 3, 4].map((k) => verdictOf(`q${question}`, k, k <= count)),
      ),
    })
    await writeStep(root, 'evaluate-plain', {}, { ...evaluationOf({}), ...verdicts([4, 4]) })
    await writeStep(root, 'evaluate-s0', {}, { ...evaluationOf({ sampled: sampled(0.4) }), ...verdicts([1, 0]) })
    await writeStep(root, 'evaluate-s1', {}, { ...evaluationOf({ sampled: sampled(0.8) }), ...verdicts([2, 3]) })
    const steps = [
      ['evaluate-plain', 'evaluate-s0'],
      ['evaluate-plain', 'evaluate-s1'],
    ]
    const arms = [armOf('base', { set: untrained, steps }), armOf('fire', { steps: [['evaluate-s0']] })]
    const section = await tradeOffSection(inputOf(root, arms))
    const rows = rowsOf(section, 'sampled')
    // Seed 0: 1/8 and 1/2; seed 1: 5/8 and 1. Of `fire` a seed is missing.
    expect(rows).toHaveLength(1)
    expect(rows[0]).toMatchObject({ arm: 'base', answers: '4', greedy: '0.6', sampledOne: '0.375', best: '0.75' })
    expect(Number(rows[0].uniqueShare)).toBeCloseTo(0.6, 12)
    // Two images are too few for an interval.
    expect(rows[0].bestLow).toBe('')
    expect(section?.html.markup).toMatch(/aria-label="pass@1, sampled, against pass@4: base 37.5 and 75.0 %"/)
  })
})

describe('grounding by layer', () => {
  it('has every layer of every seed', async () => {
    const root = await temporaryFolder()
    const at = (value: number) => ({ value, low: value - 0.1, high: value + 0.1 })
    const grounding = (value: number) => {
      const layers = { ar: [at(value), at(2 * value)], kl: [at(1)], js: [at(1)], mass: [at(1)], shiftedAr: [at(1)] }
      return { grounding: { results: [{ system: 'a', kind: 'localization', layers }], comparisons: [] } }
    }
    await writeStep(root, 'evaluate-0', {}, evaluationOf(grounding(1)))
    await writeStep(root, 'evaluate-1', {}, evaluationOf(grounding(3)))
    const arms = [armOf('base', { set: untrained, steps: [['evaluate-0'], ['evaluate-1']] })]
    const section = await groundingSection(inputOf(root, arms))
    const ratios = rowsOf(section, 'grounding-layers').filter(({ measure }) => measure === 'ar')
    expect(ratios.map(({ seed, layer, value }) => [seed, layer, value])).toEqual([
      ['0', '1', '1'],
      ['0', '2', '2'],
      ['1', '1', '3'],
      ['1', '2', '6'],
    ])
    expect(section?.html.markup).toContain('aria-label="Attention ratio (AR) by layer, localization questions"')
  })
})

describe('rewards and style', () => {
  const text = (answer: number) => ({ answer, phrases: -answer, words: 3 })
  const rewardOf = (pairId: string, values: readonly number[], pairs = '../pairs-held/pairs.jsonl') => {
    const [chosen, rejected, right, wrong] = values.map(text)
    const references = { referenceRight: right ?? null, referenceWrong: wrong ?? null }
    return {
      ...{
        system: 'a',
        pairs,
        seenImage: false,
        pairId,
        sampleId: pairId,
        imageId: pairId,
        chosen,
        rejected,
        ...references,
      },
      reason: right ? null : 'none',
    }
  }

  it('counts which text has the higher reward, ties as wrong', async () => {
    const root = await temporaryFolder()
    const rewards = [
      // Chosen, rejected, right and wrong as the reference writes.
      rewardOf('a', [2, 1, 5, 4]),
      rewardOf('b', [2, 2, 5, 6]),
      rewardOf('c', [3, 1]),
      // Three of four of what it is trained on.
      ...[2, 3, 4, 0].map((chosen) => rewardOf(`t${chosen}`, [chosen, 1], '../corrupt-own/pairs.jsonl')),
    ]
    for (const seed of [0, 1]) {
      const train = await writeStep(root, `train-${seed}`, {}, {})
      await writeFile(join(train, 'step.json'), JSON.stringify({ from: ['corrupt-own/pairs.jsonl'] }))
      await writeStep(
        root,
        `evaluate-${seed}`,
        {},
        {
          ...evaluationOf({}),
          'rewards.jsonl': rewards,
          'verdicts.jsonl': [verdictOf('q', 0, true, 'on the left'), verdictOf('r', 0, true, 'yes')],
        },
      )
    }
    const steps = [
      ['train-0', 'evaluate-0'],
      ['train-1', 'evaluate-1'],
    ]
    const arms = [armOf('base', { set: untrained, words: 8 }), armOf('dpo', { steps, words: 3 })]
    const lines = [{ label: 'DPO', arms: { dpo: 9 } }]
    const section = await rewardHackingSection(inputOf(root, arms, { lines }))
    const [row, ...others] = rowsOf(section, 'rewards')
    expect(others).toEqual([])
    expect(row).toMatchObject({ arm: 'dpo', training: '0.75', words: '3', referenceWords: '2' })
    expect(Number(row.heldOut)).toBeCloseTo(2 / 3, 12)
    expect(Number(row.heldOutPhrases)).toBe(0)
    expect([row.bothReference, row.bothOwn, row.rightOwn, row.rightReference].map(Number)).toEqual([0.5, 0.5, 0, 1])
    expect(section?.html.markup).toMatch(/aria-label="Accuracy against words: base 60.0 % with 8.0 words/)
  })
})

describe('the first page', () => {
  it('says which accuracy is of images that were trained on', async () => {
    const root = await temporaryFolder()
    const { results } = inputOf(root, [armOf('a', {}), armOf('b', {})])
    results.arms[1].seeds[0].seen = 3
    await writePages(root, results)
    const page = await readFile(join(root, 'report.html'), 'utf8')
    expect(page).toContain('Up to 3 questions of b are about images that were trained on')
  })
})

describe('what was run', () => {
  it('names arms that are one run, and every value that was tried', () => {
    const input = inputOf('', [armOf('a', {}), armOf('b', { tuned: 2 }), armOf('c', {})])
    input.results.oneRun.push(['a', 'c', 'elsewhere'], ['b', 'elsewhere'])
    const trials = [1, 2].map((value) => ({ value, successes: value, count: 4, out: null }))
    for (const { tuned } of input.results.arms[1].seeds) tuned?.trials.push(...trials)
    const section = methodSection(input)
    expect(section?.html.markup).toContain('One run under several names, since nothing differs: a = c.')
    expect(section?.html.markup).toContain('train.optimizer.lr = 2, the largest that was tried')
    expect(rowsOf(section, 'tuning')).toMatchObject([
      { arm: 'b', value: '1', successes: '1', count: '4', chosen: '0' },
      { arm: 'b', value: '2', successes: '2', count: '4', chosen: '1' },
    ])
  })
})
