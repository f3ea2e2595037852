/** The top of the report: what came out, and for which questions. */

import { type Html, html } from '../page/html.js'
import { intervalOfShares, percent, said } from '../page/numbers.js'
import type { Proportion } from '../statistics/index.js'
import { accuraciesOf, type ComparedRows, comparedTable } from './compared.js'
import type { ChangedAnswer, ComparedRounds, ReportData } from './types.js'
import { askWords, headline, readable } from './words.js'

/** Kinds of groups that a run is told by, under their headings. */
const kinds = [
  ['overall', null],
  ['answerType', 'By kind of answer'],
  ['ask', 'By what is asked'],
  ['concept', 'By concept'],
] as const

export function headlineSection(data: ReportData): Html {
  const sentences = data.summary.map((sentence) => html`<p>${sentence}</p>`)
  if (!data.rounds) return html`<section>${sentences}</section>`
  const { conclusion, title, detail } = headline(data.rounds)
  const { before, after } = accuraciesOf(data.rounds.comparison.groups[0].counts)
  const number = (share: Proportion, round: string, colour: string) =>
    html`<div><b class="${colour}">${percent(share.value)} %</b><small>${round} ${intervalOfShares(share)}</small></div>`
  return html`<section>
    <div class="headline">
      <div class="numbers">
        ${number(before, 'before', 'was')}<span class="arrow">→</span>${number(after, 'after', 'is')}
      </div>
      <div>
        <p class="verdict ${conclusion}">${title}</p>
        <p class="small">${detail}</p>
      </div>
    </div>
    ${sentences}
  </section>`
}

export function accuracySection({ rounds, judge }: ReportData): Html | null {
  if (!rounds) return null
  return html`<section>
    <h2>Accuracy on the held-out questions</h2>
    ${comparedTable(rowsOf(rounds))}
    <p class="note" style="margin-top: 14px">Answers are ${askedWords(rounds.asked)} and judged ${judge}; an undecided answer counts as wrong. Wilson
    intervals before and after. The interval of each difference is Newcombe’s, which takes the questions as independent; the headline
    rests on the interval by image. p is the exact McNemar test, under Holm for all questions and Benjamini-Hochberg for the
    subgroups, which are exploratory.</p>
  </section>`
}

/** How the model was asked, before and after. */
export const askedWords = ({ temperature, answers }: ComparedRounds['asked']): string =>
  temperature === 0 ? 'greedy' : `${answers > 1 ? 'the first of several ' : ''}sampled at temperature ${temperature}`

function rowsOf({ comparison, before, after }: ComparedRounds): ComparedRows[] {
  return kinds.flatMap(([kind, title]) => {
    const rows = comparison.groups
      .filter((group) => group.kind === kind)
      .map((group) => {
        const undecided = (round: ComparedRounds['before']): number =>
          round.find((each) => each.kind === kind && each.name === group.name)?.outcomes.undecided ?? 0
        return {
          name: kind === 'overall' ? 'All questions' : readable(group.name),
          about: kind === 'concept' ? undefined : askWords(group.name),
          group,
          undecided: { before: undecided(before), after: undecided(after) },
          ...(kind === 'overall' && { conclusion: comparison.conclusion, isTotal: true }),
        }
      })
    return rows.length > 0 ? [{ title, rows }] : []
  })
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
