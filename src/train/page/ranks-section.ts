/** Who held up whom: the ranks of a run beside each other, over its last steps. */
import { type Html, html } from '../../page/html.js'
import { percent } from '../../page/numbers.js'
import { duration } from '../../text/duration.js'
import { counted } from '../../text/plural.js'
import type { RankRow } from '../metrics.js'

/** A rank in means over the steps; times are seconds of a step. */
export interface RankMeans {
  rank: number
  host: string
  pairs: number
  rows: number
  engine: number
  images: number
  ranks: number
  peakHostBytes: number
}

/** @param steps each with a row of every rank, in their order. */
export function rankMeans(steps: readonly (readonly RankRow[])[]): RankMeans[] {
  const last = steps.at(-1) ?? []
  return last.map(({ rank, host, peak_host_bytes: peakHostBytes }) => {
    const rows = steps.flatMap((step) => step.filter((row) => row.rank === rank))
    const mean = (key: keyof Omit<RankRow, 'host'>): number =>
      rows.reduce((sum, row) => sum + row[key], 0) / rows.length
    const times = { engine: mean('engine_time'), images: mean('data_time'), ranks: mean('ranks_time') }
    return { rank, host, pairs: mean('pairs'), rows: mean('rows'), ...times, peakHostBytes }
  })
}

/** Nothing for a run of one rank. */
export function ranksSection(steps: readonly (readonly RankRow[])[]): Html | undefined {
  if (steps.length === 0) return undefined
  const means = rankMeans(steps)
  const busy = ({ engine, images }: RankMeans): number => engine + images
  const times = means.map(busy)
  const most = Math.max(...times)
  const mean = times.reduce((sum, time) => sum + time, 0) / times.length
  const slowest = means.find((rank) => busy(rank) === most) as RankMeans
  const waits = means.reduce((sum, { ranks }) => sum + ranks, 0)
  const all = waits + times.reduce((sum, time) => sum + time, 0)
  return html`<section class="ranks">
  <h2>Ranks</h2>
  <p>Over the last ${counted(steps.length, 'step')} rank ${slowest.rank} was the slowest: at work for ${duration(most)} of a step,
  ${percent(most / mean - 1)} % longer than the mean. Waiting for other ranks took ${percent(waits / all)} % of the time of all.</p>
  <table><thead><tr>${[
    'Rank',
    'Machine',
    'Pairs',
    'Rows',
    'Engine, s',
    'Images, s',
    'Other ranks, s',
    'Memory, MiB',
  ].map(
    (name) => html`<th>${name}</th>`,
  )}</tr></thead><tbody>${means.map((each) => rankRow(each, each === slowest))}</tbody></table>
  <p class="note">Means of a step. Engine: computing. Images: waiting for them to be read and decoded. Other ranks: waiting for their
  gradients. Memory: the highest of the process so far. Every step is in ranks.jsonl.</p>
</section>`
}

function rankRow(
  { rank, host, pairs, rows, engine, images, ranks, peakHostBytes }: RankMeans,
  isSlowest: boolean,
): Html {
  const values = [
    ...[pairs.toFixed(1), rows.toFixed(0)],
    ...[engine, images, ranks].map((time) => time.toFixed(time < 1 ? 3 : 2)),
    (peakHostBytes / 2 ** 20).toFixed(0),
  ]
  return html`<tr class="${isSlowest ? 'slowest total' : ''}"><td>${rank}</td><td>${host}</td>${values.map(
    (value) => html`<td class="number">${value}</td>`,
  )}</tr>`
}
