/** Accuracy against diversity: one answer, greedy or sampled, against the best of several. */
import * as Plot from '@observablehq/plot'
import type { Diversity } from '../../evaluate/diversity.js'
import { readEvaluation } from '../../evaluate/index.js'
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { questionPass, type SampledResults } from '../../evaluate/several.js'
import { drawChart } from '../../page/chart.js'
import { type Html, html } from '../../page/html.js'
import { percent } from '../../page/numbers.js'
import type { ClusteredItem } from '../../statistics/index.js'
import { readVerdicts } from '../further.js'
import { meanOf, type SeedMean, seedMean } from '../means.js'
import type { ArmResults } from '../results.js'
import { isUntrained } from '../settings.js'
import { legendOf, lookOf } from './arm-look.js'
import { drawBars } from './bar-chart.js'
import { armsOfTable, finishedFolders } from './finished.js'
import type { SectionInput } from './section.js'
import { cellsOfMean, showMean } from './seed-mean.js'

/** An arm that answered each question several times, with every seed. */
interface SampledArm {
  arm: ArmResults
  answers: number
  sampledOne: SeedMean
  best: SeedMean
  seeds: { seed: number; sampled: SampledResults; one: number; best: number }[]
}

const measures: Record<keyof Diversity, string> = {
  uniqueShare: 'Distinct answers over answers',
  entropyBits: 'Entropy of the answers, bits',
  distinct1: 'Distinct words over words',
  distinct2: 'Distinct word pairs over pairs',
  meanEditDistance: 'Edits between two answers, share of words',
}
const names = Object.keys(measures) as (keyof Diversity)[]

export async function tradeOffSection(input: SectionInput): Promise<Section | null> {
  const arms = await sampledArms(input)
  if (arms.length === 0) return null
  const { table } = input
  const k = arms[0].answers
  const shown = tableOf<SampledArm>({
    name: 'sampled',
    rows: arms,
    columns: [
      { label: 'arm', kind: 'text', show: ({ arm }) => html`<b>${arm.name}</b>` },
      { label: 'pass@1, greedy, %', show: ({ arm }) => showMean(arm.means.overall) },
      { label: 'pass@1, sampled, %', show: ({ sampledOne }) => showMean(sampledOne) },
      { label: `pass@${k}, %`, show: ({ best }) => showMean(best) },
      {
        label: 'one verdict for all answers, %',
        show: ({ seeds }) => percent(meanOf(seeds, ({ sampled }) => sampled.consistent)),
      },
    ],
    data: ({ arm, answers, sampledOne, best, seeds }) => ({
      ...{ arm: arm.name, answers, seeds: seeds.length },
      ...cellsOfMean('greedy', arm.means.overall),
      ...cellsOfMean('sampledOne', sampledOne),
      ...cellsOfMean('best', best),
      consistent: meanOf(seeds, ({ sampled }) => sampled.consistent),
      ...Object.fromEntries(names.map((name) => [name, meanOf(seeds, ({ sampled }) => sampled.diversity[name])])),
    }),
  })
  const bySeed = tableOf({
    name: 'sampled-seeds',
    rows: arms.flatMap(({ arm, seeds }) => seeds.map((each) => ({ arm: arm.name, ...each }))),
    columns: [],
    data: ({ arm, seed, one, best, sampled: { consistent, diversity } }) => ({
      ...{ arm, seed, sampledOne: one, best, consistent },
      ...Object.fromEntries(names.map((name) => [name, diversity[name]])),
    }),
  })
  const title = 'One answer and several'
  return {
    title,
    tables: present(shown, bySeed),
    html: html`<h2>${title}</h2>
      <p class="note">pass@${k}: at least one of ${k} sampled answers is right. It rises with noise as well: read it with the share of questions whose answers all have
      one verdict. Intervals are 95 %, over seeds and images; arrows begin at the model without training.</p>
      ${legendOf(
        table,
        arms.map(({ arm }) => arm.name),
      )}
      <div class="grid">${drawScatter(input, arms, 'greedy')}${drawScatter(input, arms, 'sampled')}</div>
      <h3 class="part">Diversity of the answers to one question</h3>
      <div class="grid">${names.map((name) => drawMeasure(input, arms, name))}</div>
      ${shown?.html}`,
  }
}

/** Those that have every seed. */
async function sampledArms({ root, results, table }: SectionInput): Promise<SampledArm[]> {
  const found: SampledArm[] = []
  for (const arm of armsOfTable(results, table)) {
    const read = []
    for (const each of arm.seeds) {
      for (const folder of finishedFolders(root, each, 'evaluate')) {
        const sampled = (await readEvaluation(folder)).systems[0].sampled
        if (sampled) read.push({ seed: each.seed, sampled, ...(await readQuestions(folder, sampled.answers)) })
      }
    }
    if (read.length === 0 || read.length < arm.seeds.length) continue
    found.push({
      ...{
        arm,
        answers: read[0].sampled.answers,
        seeds: read.map(({ seed, sampled, ones, bests }) => ({
          ...{ seed, sampled, one: meanOf(ones, ({ value }) => value), best: meanOf(bests, ({ value }) => value) },
        })),
      },
      sampledOne: seedMean(
        read.map(({ ones }) => ones),
        results,
      ),
      best: seedMean(
        read.map(({ bests }) => bests),
        results,
      ),
    })
  }
  return found
}

/** Of each question: the share of drawn answers that are right, and whether one of them is. */
async function readQuestions(folder: string, k: number): Promise<Record<'ones' | 'bests', ClusteredItem[]>> {
  const records = await readVerdicts(folder)
  const items = (at: number): ClusteredItem[] =>
    questionPass(records, at).map(({ imageId: cluster, value }) => ({ cluster, value }))
  return { ones: items(1), bests: items(k) }
}

/** The untrained arm, where the table has it. */
const untrainedOf = (arms: readonly SampledArm[]): SampledArm | undefined => arms.find(({ arm }) => isUntrained(arm))

function drawScatter({ table }: SectionInput, arms: readonly SampledArm[], by: 'greedy' | 'sampled'): Html | null {
  const k = arms[0].answers
  const one = ({ arm, sampledOne }: SampledArm) => (by === 'greedy' ? arm.means.overall : sampledOne)
  const points = arms.flatMap((each) => {
    const mean = one(each)
    if (!mean) return []
    const { best } = each
    return [
      {
        ...{ arm: each.arm.name, stroke: lookOf(table, each.arm.name).stroke, x: mean.value, y: best.value },
        ...{ x1: mean.interval?.low ?? mean.value, x2: mean.interval?.high ?? mean.value },
        ...{ y1: best.interval?.low ?? best.value, y2: best.interval?.high ?? best.value },
      },
    ]
  })
  if (points.length === 0) return null
  const from = points.find(({ arm }) => arm === untrainedOf(arms)?.arm.name)
  const arrows = from ? points.filter((each) => each !== from).map((to) => ({ ...to, x0: from.x, y0: from.y })) : []
  const stroke = (each: { stroke: string }) => each.stroke
  const title = `pass@1, ${by}, against pass@${k}`
  const inPercent = (share: number) => percent(share, 0)
  const chart = drawChart({
    ariaLabel: `${title}: ${points.map(({ arm, x, y }) => `${arm} ${percent(x)} and ${percent(y)} %`).join('; ')}`,
    ...{ marginLeft: 52, marginBottom: 38, inset: 8 },
    color: { type: 'identity' },
    x: { label: `pass@1, ${by}, %`, grid: true, tickFormat: inPercent, nice: true },
    y: { label: `pass@${k}, %`, grid: true, ticks: 5, tickFormat: inPercent, nice: true },
    marks: [
      Plot.ruleY(points, { y: 'y', x1: 'x1', x2: 'x2', stroke, strokeWidth: 4, strokeOpacity: 0.3 }),
      Plot.ruleX(points, { x: 'x', y1: 'y1', y2: 'y2', stroke, strokeWidth: 4, strokeOpacity: 0.3 }),
      Plot.arrow(arrows, {
        x1: 'x0',
        y1: 'y0',
        x2: 'x',
        y2: 'y',
        stroke,
        strokeWidth: 1.4,
        insetEnd: 6,
        headLength: 7,
      }),
      Plot.dot(points, { x: 'x', y: 'y', fill: stroke, r: 4.5 }),
    ],
  })
  return html`<figure><h3>${title}</h3>${chart}</figure>`
}

function drawMeasure({ table }: SectionInput, arms: readonly SampledArm[], name: keyof Diversity): Html {
  const bars = arms.map(({ arm, seeds }) => {
    const values = seeds.flatMap(({ sampled }) => sampled.diversity[name] ?? [])
    return { arm: arm.name, mean: meanOf(values, (value) => value), interval: null, seeds: values }
  })
  const chart = drawBars(table, bars, {
    label: measures[name],
    format: (value) => String(Number(value.toPrecision(2))),
  })
  return html`<figure><h4>${measures[name]}</h4>${chart}</figure>`
}
