/** The top of the report: what came out, and for which questions. */
import type { Group, GroupComparison } from '../evaluate/accuracy.js'
import { type Html, html } from '../page/html.js'
import { drawAccuracies } from './charts.js'
import type { ChangedAnswer, ReportData } from './types.js'
import {
  headline,
  intervalOfPoints,
  intervalsApart,
  percent,
  pointsWithInterval,
  pValue,
  readable,
  withInterval,
} from './words.js'

const KINDS: Record<Group['kind'], string> = {
  overall: 'All questions',
  answerType: 'By kind of answer',
  ask: 'By what is asked',
  concept: 'By concept',
}

export function headlineSection(data: ReportData): Html {
  const sentences = data.summary.map((sentence) => html`<p>${sentence}</p>`)
  const overall = data.comparisons.at(0)
  if (!overall) return html`<section>${sentences}</section>`
  const { conclusion, title, detail } = headline(overall)
  const apart = intervalsApart(overall)
    ? 'The interval after training lies wholly above the one before.'
    : 'The two intervals overlap; the paired test is the sharper comparison, since both rounds answer the same questions.'
  return html`<section>
    <div class="headline">
      <div class="numbers">
        <b class="was">${percent(overall.before.value)} %<small>before · ${bounds(overall.before)}</small></b>
        <span class="arrow">→</span>
        <b class="is">${percent(overall.after.value)} %<small>after · ${bounds(overall.after)}</small></b>
      </div>
      <div>
        <p class="verdict ${conclusion}">${title}</p>
        <p class="small">${detail} ${conclusion === 'gain' && apart}</p>
      </div>
    </div>
    ${sentences}
  </section>`
}

const bounds = ({ low, high, count }: GroupComparison['before']) => `[${percent(low)}, ${percent(high)}], n = ${count}`

export function accuracySection(data: ReportData): Html | null {
  if (data.comparisons.length === 0) return null
  const charted = data.comparisons.filter((group) => group.kind !== 'concept')
  return html`<section>
    <h2>Accuracy on the held-out questions</h2>
    <div class="legend"><span><i style="background: var(--before)"></i>before</span><span><i style="background: var(--after)"></i>after</span></div>
    <figure>${drawAccuracies(charted, (group) => readable(group.name))}</figure>
    <div class="scroll"><table>
      <thead><tr><th></th><th>before, % [95 %]</th><th>after, % [95 %]</th><th>difference, points [95 %]</th><th>right → wrong</th><th>wrong → right</th><th>p</th><th>undecided</th><th>n</th></tr></thead>
      <tbody>${accuracyRows(data.comparisons)}</tbody>
    </table></div>
    <p class="note">Answers are greedy and judged ${data.judge}; an undecided answer counts as wrong. Wilson
    intervals for each round; Newcombe's paired score interval for the difference; exact McNemar test, not corrected for the
    number of rows: only the first row decides the headline. Several questions
    share an image; a cluster-robust interval that allows for it puts the difference over all questions at
    ${intervalOfPoints(data.comparisons[0].clustered)} points.</p>
  </section>`
}

function accuracyRows(comparisons: readonly GroupComparison[]): Html[] {
  return comparisons.map((group, i) => {
    const opens = group.kind !== 'overall' && group.kind !== comparisons[i - 1]?.kind
    return html`${opens && html`<tr class="kind"><td colspan="9">${KINDS[group.kind]}</td></tr>`}${accuracyRow(group)}`
  })
}

function accuracyRow(group: GroupComparison): Html {
  const colour = group.conclusion === 'not_resolved' ? '' : `${group.conclusion}-text`
  return html`<tr class="${group.kind === 'overall' ? 'total' : ''}">
    <td>${group.kind === 'overall' ? KINDS.overall : readable(group.name)}</td>
    <td>${withInterval(group.before)}</td><td>${withInterval(group.after)}</td>
    <td class="${colour}">${pointsWithInterval(group.difference)}</td>
    <td>${group.counts.lost}</td><td>${group.counts.gained}</td><td>${pValue(group.pValue)}</td>
    <td>${group.undecidedBefore} → ${group.undecidedAfter}</td><td>${group.before.count}</td>
  </tr>`
}

export function changedSection(data: ReportData): Html | null {
  if (data.changed.length === 0) return null
  return html`<section>
    <h2>Answers that changed</h2>
    <p class="note">Drawn evenly from the held-out questions whose verdict changed, gains and losses in the proportion in which they occurred.</p>
    <div class="scroll"><table>
      <thead><tr><th>question (reference)</th><th style="text-align: left">before</th><th style="text-align: left">after</th></tr></thead>
      <tbody>${data.changed.map(changedRow)}</tbody>
    </table></div>
  </section>`
}

function changedRow({ question, reference, before, after }: ChangedAnswer): Html {
  const cell = (answer: ChangedAnswer['before']) => html`<td style="text-align: left; white-space: normal">
    ${answer.text === '' ? html`<i>nothing</i>` : answer.text}
    <span class="${answer.correct ? 'gain-text' : 'loss-text'}">${answer.correct ? '✓' : answer.decided ? '✗' : '?'}</span></td>`
  return html`<tr><td>${question} <span class="soft">(${reference})</span></td>${cell(before)}${cell(after)}</tr>`
}
