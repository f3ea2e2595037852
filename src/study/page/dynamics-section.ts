/** What training did, step by step: means over seeds, on a logarithmic axis. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as Plot from '@observablehq/plot'
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { drawChart, tickFormat } from '../../page/chart.js'
import { type Html, html } from '../../page/html.js'
import type { ArmResults } from '../results.js'
import { stepsFolder } from '../steps.js'
import type { SectionInput } from './section.js'

const curves = {
  'rewards/accuracies': 'Reward accuracy on training pairs',
  'rewards/margins': 'Margin',
  loss: 'Loss',
  grad_norm: 'Gradient norm',
} as const
type Curve = keyof typeof curves

type Row = { arm: string; step: number } & Partial<Record<Curve, number>>

/** More lines than this cannot be told apart. */
const most = 8

export async function dynamicsSection({ root, results, table }: SectionInput): Promise<Section | null> {
  const rows: Row[] = []
  const arms = results.arms.filter(({ name }) => table.arms.includes(name))
  for (const arm of arms) rows.push(...(await meanSteps(root, arm)))
  const shown = [...new Set(rows.map(({ arm }) => arm))].slice(0, most)
  const data = tableOf<Row>({
    name: 'dynamics',
    rows,
    columns: [{ label: 'arm', show: ({ arm }) => arm }],
    data: (row) => ({ arm: row.arm, step: row.step, ...pick(row) }),
  })
  if (!data) return null
  const title = 'Training'
  const left = new Set(rows.map(({ arm }) => arm)).size - shown.length
  const charts = (Object.keys(curves) as Curve[]).map((key) =>
    drawCurve(
      key,
      rows.filter((row) => shown.includes(row.arm) && row[key] !== undefined),
      shown,
    ),
  )
  return {
    title,
    tables: present(data),
    html: html`<h2>${title}</h2>
      <p class="note">Means over the seeds of the pairs of each step, smoothed over a tenth of the steps.${left > 0 && ` ${left} further arms are in the CSV.`}</p>
      <div class="legend">${shown.map((name, i) => html`<span><i style="background: ${colourOf(i)}"></i>${name}</span>`)}</div>
      <div class="grid">${charts}</div>`,
  }
}

const pick = (row: Row): Record<Curve, number | null> =>
  Object.fromEntries((Object.keys(curves) as Curve[]).map((key) => [key, row[key] ?? null])) as Record<
    Curve,
    number | null
  >

/** Each step's mean over the seeds that are trained. */
async function meanSteps(root: string, { name, seeds }: ArmResults): Promise<Row[]> {
  const byStep = new Map<number, Record<string, number>[]>()
  for (const { steps } of seeds) {
    const train = steps.find((step) => step.startsWith('train-'))
    const path = train && join(stepsFolder(root), train, 'metrics.jsonl')
    if (!path || !existsSync(path)) continue
    for (const line of (await readFile(path, 'utf8')).split('\n')) {
      if (line === '') continue
      const row = JSON.parse(line) as Record<string, number>
      byStep.set(row.step, [...(byStep.get(row.step) ?? []), row])
    }
  }
  return [...byStep].map(([step, rows]) => {
    const means = (Object.keys(curves) as Curve[]).flatMap((key) => {
      const values = rows.flatMap((row) => row[key] ?? [])
      return values.length === 0 ? [] : [[key, values.reduce((sum, each) => sum + each, 0) / values.length]]
    })
    return { arm: name, step, ...Object.fromEntries(means) }
  })
}

const colourOf = (i: number): string =>
  i < 4 ? `var(--series-${i + 1})` : `color-mix(in srgb, var(--series-${i - 3}) 50%, var(--text))`

function drawCurve(key: Curve, rows: readonly Row[], arms: readonly string[]): Html | null {
  if (rows.length === 0) return null
  const marks = arms.map((arm, i) => {
    const own = rows.filter((row) => row.arm === arm)
    const k = Math.max(1, 2 * Math.floor(own.length / 20) + 1)
    const line = { x: 'step', y: key, stroke: colourOf(i), strokeWidth: 1.8 }
    return Plot.lineY(own, Plot.windowY({ k, anchor: 'middle', strict: false }, line))
  })
  const chart = drawChart({
    ...{ marginLeft: 52, marginBottom: 38 },
    x: { label: 'step', type: 'log', tickFormat },
    y: { label: null, grid: true, nice: true, ticks: 5, tickFormat },
    marks,
  })
  return html`<figure><h3>${curves[key]}</h3>${chart}</figure>`
}
