/** Rows of two rounds: a chart that grows with the page, and its numbers. */
import type { ComparedGroup, Resolution } from '../evaluate/compare.js'
import { type Html, html } from '../page/html.js'
import { intervalOfPoints, intervalOfShares, percent, points, pValue } from '../page/numbers.js'
import { type PairedCounts, type Proportion, wilson } from '../statistics/index.js'

/** One row: what it is about, and both rounds on it. */
export interface ComparedRow {
  name: string
  /** In a few words below the name. */
  about?: string
  group: ComparedGroup
  /** Answers that commit to nothing. */
  undecided?: { before: number; after: number }
  /** What is concluded; subgroups are exploratory, and nothing is. */
  conclusion?: Resolution
  isTotal?: boolean
}

/** Rows under a heading of their own; the first group may have none. */
export interface ComparedRows {
  title: string | null
  rows: ComparedRow[]
}

/** The accuracies of both rounds. */
export function accuraciesOf({
  bothRight,
  lost,
  gained,
  bothWrong,
}: PairedCounts): Record<'before' | 'after', Proportion> {
  const count = bothRight + lost + gained + bothWrong
  return { before: wilson(bothRight + lost, count), after: wilson(bothRight + gained, count) }
}

export function comparedTable(groups: readonly ComparedRows[]): Html {
  return html`<div class="legend">
      <span><i style="background: var(--before)"></i>before training</span>
      <span><i style="background: var(--after)"></i>after training</span>
      <span>Dots: accuracy. Bars: 95 % interval.</span>
    </div>
    <table class="compared">
      <thead><tr><th class="name"></th><th class="chart">${drawAxis()}</th><th>before, %</th><th>after, %</th><th class="change">difference, points</th><th class="moved">became right (+), wrong (−)</th><th class="p">adjusted p</th><th class="n">n</th></tr></thead>
      <tbody>${groups.map(({ title, rows }) => html`${title !== null && html`<tr class="kind"><td colspan="8">${title}</td></tr>`}${rows.map(drawRow)}`)}</tbody>
    </table>`
}

function drawRow({ name, about, group, undecided, conclusion, isTotal }: ComparedRow): Html {
  const { difference, counts, mcnemar, adjusted } = group
  const { before, after } = accuraciesOf(counts)
  const colour = conclusion === 'gain' || conclusion === 'loss' ? `${conclusion}-text` : ''
  const share = (label: string, value: Proportion) =>
    html`<td data-label="${label}">${percent(value.value)}<small>${intervalOfShares(value)}</small></td>`
  const open = undecided && undecided.before + undecided.after > 0
  const p = adjusted.holm ?? adjusted.benjaminiHochberg ?? mcnemar.exact
  return html`<tr class="${isTotal ? 'total' : ''}">
    <td>${name}${about && html`<small>${about}</small>`}</td>
    <td class="chart">${drawTrack(before, after)}</td>
    ${share('before', before)}${share('after', after)}
    <td data-label="change" class="change ${colour}">${points(difference.value)}<small>${intervalOfPoints(difference)}</small></td>
    <td data-label="turned" class="moved">+${counts.gained} −${counts.lost}${open && html`<small>undecided ${undecided.before} → ${undecided.after}</small>`}</td>
    <td data-label="p" class="p">${pValue(p)}</td><td data-label="n" class="n">${before.count}</td>
  </tr>`
}

const levels = [0, 25, 50, 75, 100]

/** Places are shares of the width, so that neither text nor dots are scaled with it. */
function drawAxis(): Html {
  return html`<svg class="axis" aria-hidden="true">${levels.map((level) => html`<text x="${level}%" y="12" text-anchor="middle">${level}${level === 100 && ' %'}</text>`)}</svg>`
}

function drawTrack(before: Proportion, after: Proportion): Html {
  const place = (value: number) => `${(100 * value).toFixed(2)}%`
  const reach = ({ low, high }: Proportion, round: string) =>
    html`<line class="reach ${round}" x1="${place(low)}" x2="${place(high)}" y1="14" y2="14"/>`
  const dot = ({ value }: Proportion, round: string) =>
    html`<circle class="${round}" cx="${place(value)}" cy="14" r="5"/>`
  const isKnown = before.count > 0
  return html`<svg class="track" role="img" aria-label="${percent(before.value)} % before, ${percent(after.value)} % after">
    ${levels.map((level) => html`<line class="level" x1="${level}%" x2="${level}%" y1="-6" y2="34"/>`)}
    ${isKnown && html`${reach(before, 'before')}${reach(after, 'after')}<line class="join" x1="${place(before.value)}" x2="${place(after.value)}" y1="14" y2="14"/>${dot(before, 'before')}${dot(after, 'after')}`}
  </svg>`
}
