/** Accuracy over one number: lines of the study file, and coefficients of the objective where arms differ in nothing else. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as Plot from '@observablehq/plot'
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { drawChart } from '../../page/chart.js'
import { type Html, html } from '../../page/html.js'
import { percent } from '../../page/numbers.js'
import { counted } from '../../text/plural.js'
import type { ArmResults } from '../results.js'
import { type Metric, metrics } from '../settings.js'
import { armsOfTable, finishedFolders } from './finished.js'
import type { SectionInput } from './section.js'
import { cellsOfMean } from './seed-mean.js'
import { metricWords, withMean } from './words.js'

/** Arms that differ in one number, in ascending order. */
export interface Sweep {
  /** The label of the study file, or the letter of the coefficient. */
  name: string
  arms: { value: number; arm: ArmResults }[]
}

const letters: Record<string, string> = { lambda: 'λ', alpha: 'α', gamma: 'γ', beta: 'β' }
const objective = 'train.objective.'

/** Two values are a row of the table, three are a line. */
const fewestValues = 3

export async function coefficientsSection(input: SectionInput): Promise<Section | null> {
  const sweeps = await sweepsOf(input)
  if (sweeps.length === 0) return null
  const numbers = tableOf({
    name: 'coefficients',
    rows: sweeps.flatMap(({ name, arms }) => arms.map((each) => ({ name, ...each }))),
    columns: [],
    data: ({ name, value, arm }) => ({
      ...{ line: name, value, arm: arm.name, seeds: arm.seeds.length },
      ...Object.fromEntries(metrics.flatMap((metric) => Object.entries(cellsOfMean(metric, arm.means[metric])))),
    }),
  })
  const charts = sweeps.map(
    (sweep) => html`<h3 class="part">${sweep.name}: ${sweep.arms.map(({ arm }) => arm.name).join(', ')}</h3>
      <div class="grid">${metrics.map((metric) => drawSweep(sweep, metric))}</div>`,
  )
  const title = 'Accuracy over one number'
  return {
    title,
    tables: present(numbers),
    html: html`<h2>${title}</h2>
      <p class="note">Arms that differ in one number alone. Line: mean over ${counted(input.results.seeds.length, 'seed')}, band: its 95 % interval, small dots:
      the seeds. A value whose arm has a missing seed is not on the line.</p>${charts}`,
  }
}

/** Lines of the file, then what differs in a coefficient alone and has three values or more. */
export async function sweepsOf(input: SectionInput): Promise<Sweep[]> {
  const arms = armsOfTable(input.results, input.table)
  const given = input.table.lines.map(({ label, arms: values }) => ({
    name: label,
    arms: inOrder(arms.filter(({ name }) => name in values).map((arm) => ({ value: values[arm.name], arm }))),
  }))
  const known = new Set(given.map(keyOf))
  const found = (await coefficientsOf(input.root, arms)).filter((sweep) => !known.has(keyOf(sweep)))
  return [...given.filter((sweep) => sweep.arms.length > 1), ...found]
}

const keyOf = ({ arms }: Sweep): string => arms.map(({ arm }) => arm.name).join('\n')

const inOrder = (arms: Sweep['arms']): Sweep['arms'] => arms.sort((a, b) => a.value - b.value)

async function coefficientsOf(root: string, arms: readonly ArmResults[]): Promise<Sweep[]> {
  const settings = [...new Set(arms.flatMap(({ set }) => Object.keys(set)))].filter((key) => key.startsWith(objective))
  const sweeps: Sweep[] = []
  for (const setting of settings) {
    for (const alike of groupsBut(setting, arms)) {
      const valued: Sweep['arms'] = []
      for (const arm of alike) {
        const value = await trainedValue(root, arm, setting)
        if (value !== undefined) valued.push({ value, arm })
      }
      if (new Set(valued.map(({ value }) => value)).size < fewestValues) continue
      const name = setting.slice(objective.length)
      sweeps.push({ name: letters[name] ?? name, arms: inOrder(valued) })
    }
  }
  return sweeps
}

/** Arms whose changes are the same but for one setting, and whose tuned values are the same. */
function groupsBut(setting: string, arms: readonly ArmResults[]): ArmResults[][] {
  const groups = new Map<string, ArmResults[]>()
  for (const arm of arms) {
    const { [setting]: _, ...rest } = arm.set
    const key = JSON.stringify([Object.entries(rest).sort(), arm.seeds.map(({ tuned }) => tuned?.value)])
    groups.set(key, [...(groups.get(key) ?? []), arm])
  }
  return [...groups.values()]
}

/** What the training had, set by the arm or not; undefined for an arm without one, or a setting that is no number. */
async function trainedValue(root: string, { seeds }: ArmResults, setting: string): Promise<number | undefined> {
  const folder = seeds.flatMap((seed) => finishedFolders(root, seed, 'train'))[0]
  if (!folder) return undefined
  const { settings } = JSON.parse(await readFile(join(folder, 'step.json'), 'utf8'))
  const value = settings[setting.slice('train.'.length)]
  return typeof value === 'number' ? value : undefined
}

function drawSweep(sweep: Sweep, metric: Metric): Html {
  const { arms } = sweep
  const means = arms.flatMap(({ value, arm }) => {
    const mean = arm.means[metric]
    return mean ? [{ value, mean: mean.value, low: mean.interval?.low, high: mean.interval?.high }] : []
  })
  const seeds = arms.flatMap(({ value, arm }) =>
    arm.seeds.flatMap(({ groups }) =>
      groups && groups[metric].count > 0 ? [{ value, share: groups[metric].successes / groups[metric].count }] : [],
    ),
  )
  const label = arms.map(({ value, arm }) => `${value}: ${withMean(arm.means[metric])} %`).join('; ')
  const values = [...new Set(arms.map(({ value }) => value))]
  const colour = 'var(--series-1)'
  const band = means.filter(({ low }) => low !== undefined)
  const chart = drawChart({
    ariaLabel: `Accuracy on ${metricWords[metric]} over ${sweep.name}. ${label}`,
    ...{ marginLeft: 52, marginBottom: 38, marginRight: 28 },
    x: { label: sweep.name, ...scaleOf(values), inset: 10, ticks: values, tickFormat: String },
    y: { label: '%', grid: true, ticks: 5, nice: true, tickFormat: (share: number) => percent(share, 0) },
    marks: [
      Plot.areaY(band, { x: 'value', y1: 'low', y2: 'high', fill: colour, fillOpacity: 0.15 }),
      Plot.lineY(means, { x: 'value', y: 'mean', stroke: colour, strokeWidth: 2 }),
      Plot.dot(means, { x: 'value', y: 'mean', fill: colour, r: 4 }),
      Plot.dot(seeds, { x: 'value', y: 'share', stroke: 'currentColor', r: 2.5, strokeWidth: 1.2 }),
    ],
  })
  return html`<figure><h4>Accuracy on ${metricWords[metric]}</h4>${chart}</figure>`
}

/** Linear, or by powers where the values are; 0 has its place on both. */
function scaleOf(values: readonly number[]): Plot.ScaleOptions {
  const above = values.filter((value) => value > 0)
  const [least, most] = [Math.min(...above), Math.max(...above)]
  return most / least > 20 ? { type: 'symlog', constant: least } : { type: 'linear' }
}
