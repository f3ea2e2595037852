/** The rounds of a pipeline, side by side: whether the model errs less in what it says itself. */
import { type Html, html } from '../page/html.js'
import { percent } from '../page/numbers.js'
import type { ReportData, RoundSummary } from './types.js'

export function roundsSection({ trainedRounds }: ReportData): Html | null {
  if (trainedRounds.length === 0) return null
  return html`<section>
    <h2>Rounds</h2>
    <p class="note">Each round samples the model with the adapter of the round before, and goes on training that adapter.
    Right: the share of pairs whose answer of the model was right as it was. Reward accuracy is a mean over the second half of
    the steps. Pairs and training below are those of the last round; accuracy compares the model as it was before the first with what it is after the last.</p>
    <table>
      <thead><tr><th>round</th><th>answers</th><th>pairs</th><th>right</th><th>steps</th><th>reward accuracy</th></tr></thead>
      <tbody>${trainedRounds.map(roundRow)}</tbody>
    </table>
  </section>`
}

function roundRow({ name, pairs, training }: RoundSummary): Html {
  const cells = [
    pairs?.answers,
    pairs?.pairs,
    pairs && `${percent(pairs.byOrigin.counterfactual / pairs.pairs)} %`,
    training?.steps,
    training?.accuracy?.toFixed(2),
  ]
  return html`<tr><td>${name}</td>${cells.map((cell) => html`<td class="number">${cell ?? '–'}</td>`)}</tr>`
}
