/** Whether rewards rise with right answers or with style: held-out pairs, the crossed probe, and accuracy against length. */
import * as Plot from '@observablehq/plot'
import { countWords } from '../../evaluate/groups.js'
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import type { RewardRecord } from '../../evaluate/records.js'
import { drawChart } from '../../page/chart.js'
import { type Html, html } from '../../page/html.js'
import { percent } from '../../page/numbers.js'
import type { ClusteredItem } from '../../statistics/index.js'
import { type RunRewards, readRewards, readVerdicts } from '../further.js'
import { meanOf, type SeedMean, seedMean } from '../means.js'
import type { ArmResults } from '../results.js'
import { isUntrained } from '../settings.js'
import { legendOf, lookOf } from './arm-look.js'
import { drawBars } from './bar-chart.js'
import { armsOfTable, finishedFolders, shareOf } from './finished.js'
import { drawLines, type LineChart, type Point } from './line-chart.js'
import type { SectionInput } from './section.js'
import { cellsOfMean, showMean } from './seed-mean.js'

/** Which of two texts should have the higher reward; the first is right. */
const probes = {
  training: { words: 'Reward accuracy on training pairs', texts: ['chosen', 'rejected'] },
  heldOut: { words: 'Reward accuracy on held-out pairs', texts: ['chosen', 'rejected'] },
  heldOutPhrases: { words: 'Reward accuracy on held-out pairs, phrases alone', texts: ['chosen', 'rejected'] },
  bothReference: { words: 'Both as the reference writes', texts: ['referenceRight', 'referenceWrong'] },
  bothOwn: { words: 'Both as the model writes', texts: ['chosen', 'rejected'] },
  rightOwn: { words: 'Right as the model writes, wrong as the reference', texts: ['chosen', 'referenceWrong'] },
  rightReference: { words: 'Right as the reference writes, wrong as the model', texts: ['referenceRight', 'rejected'] },
} as const
type Probe = keyof typeof probes
const probeNames = Object.keys(probes) as Probe[]
const crossed: readonly Probe[] = ['bothReference', 'bothOwn', 'rightOwn', 'rightReference']

/** What one arm came to; the arrays are by seed. */
interface RewardedArm {
  arm: ArmResults
  words: number[]
  shares: Partial<Record<Probe, { mean: SeedMean; seeds: number[] }>>
}

export async function rewardHackingSection(input: SectionInput): Promise<Section | null> {
  const arms = await rewardedArms(input)
  if (arms.length === 0) return null
  const reference = await referenceWords(input)
  const { table } = input
  const untrained = armsOfTable(input.results, table).find(isUntrained)
  const shown = tableOf<RewardedArm>({
    name: 'rewards',
    rows: arms,
    columns: [
      { label: 'arm', kind: 'text', show: ({ arm }) => html`<b>${arm.name}</b>` },
      ...probeNames.map((probe) => ({
        label: `${probes[probe].words}, %`,
        show: ({ shares }: RewardedArm) => showMean(shares[probe]?.mean ?? null),
      })),
      { label: 'answers right, %', show: ({ arm }) => showMean(arm.means.overall) },
      { label: 'words of an answer', show: ({ words }) => meanOf(words, same).toFixed(1) },
    ],
    data: ({ arm, words, shares }) => ({
      ...{ arm: arm.name, seeds: arm.seeds.length },
      ...Object.assign({}, ...probeNames.map((probe) => cellsOfMean(probe, shares[probe]?.mean ?? null))),
      ...cellsOfMean('accuracy', arm.means.overall),
      ...{ words: meanOf(words, same), referenceWords: reference },
    }),
  })
  const bars = crossed.flatMap((probe) => {
    const rows = arms.flatMap(({ arm, shares }) => {
      const share = shares[probe]
      return share ? [{ arm: arm.name, mean: share.mean.value, interval: share.mean.interval, seeds: share.seeds }] : []
    })
    if (rows.length === 0) return []
    const label = probes[probe].words
    const chart = drawBars(table, rows, { label, format: (share) => percent(share, 0), domain: [0, 1], level: 0.5 })
    return [html`<figure><h4>${label}, %</h4>${chart}</figure>`]
  })
  const title = 'Rewards and style'
  return {
    title,
    tables: present(shown),
    html: html`<h2>${title}</h2>
      <p class="note">The reward of a text is how much likelier the trained model finds it than the model alone, over all its tokens, or those of the decisive phrases. A share says how often the right text has
      the higher reward; 50 % is chance. Training pairs are those of the arm itself, measured when it is trained.</p>
      ${drawAlong(input, arms, reference, untrained)}
      ${
        bars.length > 0 &&
        html`<h3 class="part">Right against wrong, in both styles</h3>
      <p class="note">Four texts an item: right and wrong, each as the reference writes and as the model writes. Where content decides, the last two are alike and high; where
      style decides, they are far apart.</p><div class="grid">${bars}</div>`
      }
      <h3 class="part">Accuracy and length of the answers</h3>${drawLengths(input, arms, reference, untrained)}
      ${shown?.html}`,
  }
}

const same = (value: number): number => value

/** Those whose rewards were measured with every seed. */
async function rewardedArms({ root, results, table }: SectionInput): Promise<RewardedArm[]> {
  const found: RewardedArm[] = []
  for (const arm of armsOfTable(results, table)) {
    const rewards: RunRewards[] = []
    for (const seed of arm.seeds) {
      const [folder] = finishedFolders(root, seed, 'train')
      if (!folder) continue
      const read = await readRewards(root, finishedFolders(root, seed, 'evaluate'), folder)
      if (read.heldOut.length > 0) rewards.push(read)
    }
    if (rewards.length === 0 || rewards.length < arm.seeds.length) continue
    const shares = probeNames.flatMap((probe) => {
      const items = rewards.map(({ heldOut, training }) => itemsOf(probe, probe === 'training' ? training : heldOut))
      if (items.some(({ length }) => length === 0)) return []
      return [
        [probe, { mean: seedMean(items, results), seeds: items.map((each) => meanOf(each, ({ value }) => value)) }],
      ]
    })
    const words = arm.seeds.flatMap((seed) => seed.words ?? [])
    found.push({ arm, words, shares: Object.fromEntries(shares) })
  }
  return found
}

/** 1 where the right text has the higher reward, strictly; pairs about one image are a cluster. */
function itemsOf(probe: Probe, records: readonly RewardRecord[]): ClusteredItem[] {
  const [right, wrong] = probes[probe].texts
  const over = probe === 'heldOutPhrases' ? 'phrases' : 'answer'
  const isCrossed = (each: RewardRecord) => each.referenceRight !== null && each.referenceWrong !== null
  const asked = crossed.includes(probe) ? records.filter(isCrossed) : records
  return asked.flatMap((each) => {
    const [better, worse] = [each[right], each[wrong]]
    return better && worse ? [{ cluster: each.imageId, value: Number(better[over] > worse[over]) }] : []
  })
}

/** Mean words of the references of the questions; null where no arm is evaluated. */
async function referenceWords({ root, results, table }: SectionInput): Promise<number | null> {
  for (const { seeds } of armsOfTable(results, table)) {
    const means: number[] = []
    for (const seed of seeds) {
      const [folder] = finishedFolders(root, seed, 'evaluate')
      if (!folder) continue
      const first = (await readVerdicts(folder)).filter(({ k }) => k === 0)
      means.push(meanOf(first, ({ reference }) => countWords(reference)))
    }
    if (means.length > 0) return meanOf(means, same)
  }
  return null
}

/** By the lines of the table, which stand for checkpoints. */
function drawAlong(
  { table }: SectionInput,
  arms: readonly RewardedArm[],
  reference: number | null,
  untrained: ArmResults | undefined,
): Html | null {
  const lines = table.lines.filter((line) => arms.some(({ arm }) => arm.name in line.arms))
  if (lines.length === 0) return null
  const look = { ...table, arms: lines.map(({ label }) => label), baseline: '' }
  const start = (seeds: ArmResults['seeds'], of: (seed: ArmResults['seeds'][number]) => number | null) =>
    seeds.map((seed) => of(seed) ?? Number.NaN)
  const before = untrained?.seeds ?? []
  const figure = (
    title: string,
    of: (arm: RewardedArm) => readonly number[],
    options: Partial<LineChart> = {},
    atStart: readonly number[] = [],
  ) => {
    const drawn = lines.map(({ label, arms: values }) => {
      const own = arms
        .filter(({ arm }) => arm.name in values)
        .map((each) => ({ x: values[each.arm.name], ys: of(each) }))
        .sort((a, b) => a.x - b.x)
      const all = atStart.length > 0 ? [{ x: 0, ys: atStart }, ...own] : own
      const seeds = (all[0]?.ys ?? []).map((_, i) => all.map(({ x, ys }): Point => ({ x, y: ys[i] })))
      return { arm: label, seeds, mean: all.map(({ x, ys }) => ({ x, y: meanOf(ys, same) })) }
    })
    const chart = drawLines(look, drawn, { label: title, xLabel: 'optimizer steps', ...options })
    return chart && html`<figure><h4>${title}</h4>${chart}</figure>`
  }
  const share = { domain: [0, 1] as [number, number], levels: [0.5] }
  return html`<h3 class="part">Along training</h3>${legendOf(
    look,
    lines.map(({ label }) => label),
  )}<div class="grid">
    ${figure('Reward accuracy on training pairs', ({ shares }) => shares.training?.seeds ?? [], share)}
    ${figure('Reward accuracy on held-out pairs', ({ shares }) => shares.heldOut?.seeds ?? [], share)}
    ${figure('Share of answers that are right', ({ arm }) => start(arm.seeds, shareOf), {}, start(before, shareOf))}
    ${figure(
      'Words of an answer; dashed: of a reference',
      ({ words }) => words,
      { levels: reference === null ? [] : [reference] },
      start(before, ({ words }) => words),
    )}
  </div>`
}

function drawLengths(
  { table }: SectionInput,
  arms: readonly RewardedArm[],
  reference: number | null,
  untrained: ArmResults | undefined,
): Html {
  const all = [...(untrained ? [untrained] : []), ...arms.map(({ arm }) => arm)]
  const points = all.flatMap(({ name, means: { overall }, seeds }) => {
    const words = seeds.flatMap((seed) => seed.words ?? [])
    if (!overall || words.length === 0) return []
    const { low, high } = overall.interval ?? { low: overall.value, high: overall.value }
    return [{ name, x: meanOf(words, same), y: overall.value, low, high, stroke: lookOf(table, name).stroke }]
  })
  const stroke = (each: { stroke: string }) => each.stroke
  const chart = drawChart({
    ariaLabel: `Accuracy against words: ${points.map(({ name, x, y }) => `${name} ${percent(y)} % with ${x.toFixed(1)} words`).join('; ')}`,
    ...{ marginLeft: 52, marginBottom: 38, inset: 8 },
    color: { type: 'identity' },
    x: { label: 'mean words of an answer', grid: true, nice: true },
    y: { label: 'right answers, %', grid: true, ticks: 5, nice: true, tickFormat: (y: number) => percent(y, 0) },
    marks: [
      ...(reference === null ? [] : [Plot.ruleX([reference], { strokeDasharray: '4 3', strokeOpacity: 0.6 })]),
      Plot.ruleX(points, { x: 'x', y1: 'low', y2: 'high', stroke, strokeWidth: 4, strokeOpacity: 0.3 }),
      Plot.dot(points, { x: 'x', y: 'y', fill: stroke, r: 4.5 }),
    ],
  })
  return html`${legendOf(
    table,
    points.map(({ name }) => name),
    'Dashed: mean words of a reference.',
  )}<div class="grid"><figure>${chart}</figure></div>`
}
