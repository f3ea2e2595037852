/** The top of the report: what came out, and for which questions. */
import type { Group, GroupComparison } from '../evaluate/accuracy.js'
import { type Html, html } from '../page/html.js'
import { intervalOfPoints, intervalOfShares, percent, said } from '../page/numbers.js'
import { type ComparedGroup, comparedTable } from './compared.js'
import type { ChangedAnswer, ReportData } from './types.js'
import { askWords, headline, intervalsApart, readable } from './words.js'

const KINDS: Record<Group['kind'], string | null> = {
  overall: null,
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
  const number = (share: GroupComparison['before'], round: string, colour: string) =>
    html`<div><b class="${colour}">${percent(share.value)} %</b><small>${round} ${intervalOfShares(share)}</small></div>`
  return html`<section>
    <div class="headline">
      <div class="numbers">
        ${number(overall.before, 'before', 'was')}<span class="arrow">→</span>${number(overall.after, 'after', 'is')}
      </div>
      <div>
        <p class="verdict ${conclusion}">${title}</p>
        <p class="small">${detail} ${conclusion === 'gain' && apart}</p>
      </div>
    </div>
    ${sentences}
  </section>`
}

export function accuracySection(data: ReportData): Html | null {
  if (data.comparisons.length === 0) return null
  return html`<section>
    <h2>Accuracy on the held-out questions</h2>
    ${comparedTable(groupsOf(data.comparisons))}
    <p class="note" style="margin-top: 14px">Answers are greedy and judged ${data.judge}; an undecided answer counts as wrong. Wilson
    intervals for each round; Newcombe’s paired score interval for the difference; exact McNemar test, not corrected for the
    number of rows: only the first row decides the headline. Several questions
    share an image; a cluster-robust interval that allows for it puts the difference over all questions at
    ${intervalOfPoints(data.comparisons[0].clustered)} points.</p>
  </section>`
}

function groupsOf(comparisons: readonly GroupComparison[]): ComparedGroup[] {
  const kinds = [...new Set(comparisons.map(({ kind }) => kind))]
  return kinds.map((kind) => ({
    title: KINDS[kind],
    rows: comparisons
      .filter((group) => group.kind === kind)
      .map((group) => ({
        name: kind === 'overall' ? 'All questions' : readable(group.name),
        about: kind === 'concept' ? undefined : askWords(group.name),
        group,
        isTotal: kind === 'overall',
      })),
  }))
}

export function changedSection(data: ReportData): Html | null {
  if (data.changed.length === 0) return null
  return html`<section>
    <h2>Answers that changed</h2>
    <p class="note">Drawn evenly from the held-out questions whose verdict changed, gains and losses in the proportion in which they occurred.</p>
    <table class="texts">
      <thead><tr><th>question (reference)</th><th>before</th><th>after</th></tr></thead>
      <tbody>${data.changed.map(changedRow)}</tbody>
    </table>
  </section>`
}

function changedRow({ question, reference, before, after }: ChangedAnswer): Html {
  return html`<tr><td><div class="long">${said(question)} <span class="soft">(${said(reference)})</span></div></td>
    <td data-label="before"><div class="long">${judged(before)}</div></td><td data-label="after"><div class="long">${judged(after)}</div></td></tr>`
}

/** An answer with its verdict. */
export function judged(answer: ChangedAnswer['before']): Html {
  const mark = answer.correct ? '✓' : answer.decided ? '✗' : '?'
  return html`${said(answer.text)} <span class="${answer.correct ? 'gain-text' : 'loss-text'}">${mark}</span>`
}
