/** One answer against several: accuracy, and how different the answers are. */
import * as Plot from '@observablehq/plot'
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { drawChart, tickFormat } from '../../page/chart.js'
import { type Html, html } from '../../page/html.js'
import { percent } from '../../page/numbers.js'
import type { ArmResults } from '../results.js'
import { meanOver, rangeOver } from './means.js'
import { armsWith, type SectionInput } from './section.js'

type Seed = ArmResults['seeds'][number]

const passAt =
  (k: 'one' | 'all') =>
  ({ sampled }: Seed): number | null =>
    (k === 'one' ? sampled?.passAtK[0] : sampled?.passAtK.at(-1))?.value ?? null

const greedy = ({ groups }: Seed): number | null => groups && groups.overall.successes / groups.overall.count

const diversity = {
  'unique answers': ({ sampled }: Seed) => sampled?.diversity.uniqueShare,
  'all of one verdict': ({ sampled }: Seed) => sampled?.consistent,
  'distinct-1': ({ sampled }: Seed) => sampled?.diversity.distinct1,
  'distinct-2': ({ sampled }: Seed) => sampled?.diversity.distinct2,
  'edit distance': ({ sampled }: Seed) => sampled?.diversity.meanEditDistance,
}

export function sampledSection(input: SectionInput): Section | null {
  const rows = armsWith(input, ({ sampled }) => sampled)
  const answers = rows.flatMap(({ seeds }) => seeds.flatMap(({ sampled }) => sampled?.answers ?? []))[0]
  const shares = {
    'pass@1, greedy': greedy,
    'pass@1, sampled': passAt('one'),
    [`pass@${answers}`]: passAt('all'),
    ...diversity,
  }
  const table = tableOf<ArmResults>({
    name: 'sampled',
    rows,
    columns: [
      { label: 'arm', show: ({ name }) => html`<b>${name}</b>` },
      ...Object.entries(shares).map(([label, of]) => ({
        label: `${label}, %`,
        show: (arm: ArmResults) => shown(meanOver(arm, of)),
      })),
      { label: 'entropy, bits', show: (arm) => meanOver(arm, entropy)?.toFixed(2) ?? '–' },
    ],
    data: (arm) => ({
      arm: arm.name,
      seeds: arm.seeds.length,
      ...Object.fromEntries(Object.entries(shares).map(([label, of]) => [label, meanOver(arm, of)])),
      entropyBits: meanOver(arm, entropy),
    }),
  })
  if (!table) return null
  const title = `One answer against ${answers}`
  return {
    title,
    tables: present(table),
    html: html`<h2>${title}</h2>
      <p class="note">Means over seeds. pass@k is the unbiased estimate that one of k answers is right. It rises with noise, so “all of one verdict”, the share of questions
      whose answers are all right or all wrong, stands beside it. In the picture a cross reaches from the lowest to the highest seed.</p>
      ${drawScatter(rows, answers)}${table.html}`,
  }
}

const entropy = ({ sampled }: Seed): number | undefined => sampled?.diversity.entropyBits
const shown = (value: number | null): string => (value === null ? '–' : percent(value))

function drawScatter(arms: readonly ArmResults[], answers: number): Html | null {
  const points = arms.flatMap((arm) => {
    const [x, y] = [rangeOver(arm, greedy), rangeOver(arm, passAt('all'))]
    const [meanX, meanY] = [meanOver(arm, greedy), meanOver(arm, passAt('all'))]
    return x && y && meanX !== null && meanY !== null
      ? [
          {
            name: arm.name,
            x: 100 * meanX,
            y: 100 * meanY,
            x1: 100 * x[0],
            x2: 100 * x[1],
            y1: 100 * y[0],
            y2: 100 * y[1],
          },
        ]
      : []
  })
  if (points.length === 0) return null
  const stroke = 'var(--series-1)'
  return drawChart({
    ...{ marginLeft: 48, marginRight: 80, marginBottom: 38 },
    x: { label: 'pass@1, greedy, %', grid: true, nice: true, tickFormat },
    y: { label: `pass@${answers}, %`, grid: true, nice: true, ticks: 5, tickFormat },
    marks: [
      Plot.ruleX(points, { x: 'x', y1: 'y1', y2: 'y2', stroke }),
      Plot.ruleY(points, { y: 'y', x1: 'x1', x2: 'x2', stroke }),
      Plot.dot(points, { x: 'x', y: 'y', fill: stroke, r: 4 }),
      Plot.text(points, { x: 'x', y: 'y', text: 'name', dx: 8, dy: -8, textAnchor: 'start', fill: 'currentColor' }),
    ],
  })
}
