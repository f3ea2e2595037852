/** What training did, step by step: arms as colours, seeds as thin lines. */
import { join } from 'node:path'
import { z } from 'zod'
import { readJsonl } from '../../data/jsonl.js'
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { html } from '../../page/html.js'
import { spread } from '../../page/spread.js'
import type { MetricsRow } from '../../train/metrics.js'
import { legendOf } from './arm-look.js'
import { armsOfTable, finishedFolders } from './finished.js'
import { type ArmLines, drawLines, type LineChart, type Point } from './line-chart.js'
import type { SectionInput } from './section.js'

/** One training. */
interface Training {
  arm: string
  seed: number
  rows: MetricsRow[]
}

interface Figure extends Omit<LineChart, 'label' | 'xLabel'> {
  key: string
  title: string
}

const figures: readonly Figure[] = [
  { key: 'rewards/accuracies', title: 'Reward accuracy on the training pairs', levels: [0.5], domain: [0, 1] },
  { key: 'rewards/margins', title: 'Reward margin', levels: [0] },
  { key: 'rewards/visual/accuracies', title: 'Visual reward accuracy', levels: [0.5], domain: [0, 1] },
  { key: 'rewards/visual/margins', title: 'Visual reward margin', levels: [0] },
  { key: 'grad_norm', title: 'Gradient norm, log axis', isLog: true },
]

const lossWords: Record<string, string> = { base: 'text preference', visual: 'visual preference', kl: 'KL' }

/** Points of a line that a page holds; the CSV has every step. */
const mostPoints = 80

export async function dynamicsSection(input: SectionInput): Promise<Section | null> {
  const { table, results } = input
  const trainings = await readTrainings(input)
  if (trainings.length === 0) return null
  const losses = keysOf(trainings).filter((key) => key.startsWith('loss/'))
  const shown = [...figures, ...losses.map(lossFigure)].flatMap((figure) => {
    const lines = linesOf(trainings, figure.key, results.seeds.length)
    const chart = drawLines(table, lines, { ...figure, label: labelOf(figure, lines), xLabel: 'optimizer step' })
    return chart ? [html`<figure><h3>${figure.title}</h3>${chart}</figure>`] : []
  })
  const arms = [...new Set(trainings.map(({ arm }) => arm))]
  const isSeveral = results.seeds.length > 1
  const title = 'Training'
  return {
    title,
    tables: present(tableOfSteps(trainings), tableOfMeans(trainings, results.seeds.length)),
    html: html`<h2>${title}</h2>
      <p class="note">Each point is a running mean over a tenth of the steps${isSeveral && '; thin lines are single seeds, strong ones their mean, which an arm with a missing seed has not'}.
      Losses are weighted as they enter the sum. Reward accuracy is the share of pairs of a step with a margin above 0.</p>
      ${legendOf(table, arms)}
      <div class="grid">${shown}</div>`,
  }
}

const lossFigure = (key: string): Figure => {
  const name = key.slice('loss/'.length)
  return { key, title: `Loss: ${lossWords[name] ?? name}` }
}

async function readTrainings({ root, results, table }: SectionInput): Promise<Training[]> {
  const trainings: Training[] = []
  for (const { name: arm, seeds } of armsOfTable(results, table)) {
    for (const each of seeds) {
      const [folder] = finishedFolders(root, each, 'train')
      if (folder) trainings.push({ arm, seed: each.seed, rows: await readSteps(folder) })
    }
  }
  return trainings
}

/** Of steps: those of held-out pairs are left out. */
async function readSteps(folder: string): Promise<MetricsRow[]> {
  const rows: MetricsRow[] = []
  for await (const { record } of readJsonl(join(folder, 'metrics.jsonl'), z.custom<MetricsRow>())) {
    if (record.eval_loss === undefined) rows.push(record)
  }
  return rows
}

const keysOf = (trainings: readonly Training[]): string[] => [
  ...new Set(trainings.flatMap(({ rows }) => rows.flatMap((row) => Object.keys(row)))),
]

function linesOf(trainings: readonly Training[], key: string, wanted: number): ArmLines[] {
  return [...new Set(trainings.map(({ arm }) => arm))].flatMap((arm) => {
    const seeds = trainings
      .filter((each) => each.arm === arm)
      .map((each) => pointsOf(each, key))
      .filter((points) => points.length > 0)
    if (seeds.length === 0) return []
    const mean = seeds.length === wanted ? meanOf(seeds) : null
    return [{ arm, seeds: seeds.map(drawn), mean: mean && drawn(mean) }]
  })
}

const pointsOf = ({ rows }: Training, key: string): Point[] =>
  rows.flatMap((row) => (Number.isFinite(row[key]) ? [{ x: row.step, y: row[key] }] : []))

const drawn = (points: readonly Point[]): Point[] => spread(smooth(points), mostPoints)

/** A running mean over a tenth of the steps: a step has a handful of pairs. */
function smooth(points: readonly Point[]): Point[] {
  const half = Math.floor(points.length / 20)
  return points.map(({ x }, i) => {
    const near = points.slice(Math.max(0, i - half), i + half + 1)
    return { x, y: near.reduce((sum, { y }) => sum + y, 0) / near.length }
  })
}

/** Of the steps that every seed has. */
function meanOf(seeds: readonly (readonly Point[])[]): Point[] {
  const known = seeds.map((points) => new Map(points.map(({ x, y }) => [x, y])))
  return seeds[0].flatMap(({ x }) => {
    const values = known.flatMap((each) => each.get(x) ?? [])
    return values.length === seeds.length ? [{ x, y: values.reduce((sum, y) => sum + y, 0) / values.length }] : []
  })
}

function labelOf({ title }: Figure, lines: readonly ArmLines[]): string {
  const ends = lines.flatMap(({ arm, mean }) => (mean ? [`${arm} ${Number(mean.at(-1)?.y.toPrecision(3))}`] : []))
  return `${title} over the steps; near the end ${ends.join(', ') || 'not known'}`
}

/** What a row of metrics has that does not depend on the machine's speed. */
const kept = (key: string): boolean => /^(rewards|loss|kl|logps)(\/|$)|^grad_norm$/.test(key)

function tableOfSteps(trainings: readonly Training[]) {
  const keys = keysOf(trainings).filter(kept)
  return tableOf({
    name: 'training',
    rows: trainings.flatMap(({ arm, seed, rows }) => rows.map((row) => ({ arm, seed, row }))),
    columns: [],
    data: ({ arm, seed, row }) => ({
      ...{ arm, seed, step: row.step },
      ...Object.fromEntries(keys.map((key) => [key, row[key] ?? null])),
    }),
  })
}

function tableOfMeans(trainings: readonly Training[], wanted: number) {
  const keys = keysOf(trainings).filter(kept)
  const rows = [...new Set(trainings.map(({ arm }) => arm))].flatMap((arm) => {
    const own = trainings.filter((each) => each.arm === arm)
    if (own.length < wanted) return []
    const means = new Map(
      keys.map((key) => [key, new Map(meanOf(own.map((each) => pointsOf(each, key))).map(({ x, y }) => [x, y]))]),
    )
    return own[0].rows.map(({ step }) => ({ arm, step, means }))
  })
  return tableOf({
    name: 'training-means',
    rows,
    columns: [],
    data: ({ arm, step, means }) => ({
      ...{ arm, step },
      ...Object.fromEntries(keys.map((key) => [key, means.get(key)?.get(step) ?? null])),
    }),
  })
}
