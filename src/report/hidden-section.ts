/** Whether answers need the evidence: the same questions with the lesion in view and hidden. */
import type { GroupComparison } from '../evaluate/accuracy.js'
import type { HiddenResults } from '../evaluate/hidden.js'
import { type Html, html } from '../page/html.js'
import { intervalOfPoints, intervalOfShares, percent, said } from '../page/numbers.js'
import { drawPicture, type Picture } from '../page/picture.js'
import { judged } from './accuracy-section.js'
import { type ComparedGroup, comparedTable } from './compared.js'
import type { HiddenExample, ReportData } from './types.js'
import { corruptionWords } from './words.js'

export function hiddenSection({ hidden }: ReportData): Html | null {
  const [first] = hidden.results
  if (!first) return null
  return html`<section>
    <h2>With the lesion hidden</h2>
    <p class="note">The ${first.visible[0].before.count} held-out questions about one image whose lesion is there and has a mask, asked again with
    the lesion hidden. A right answer is then no longer read from the lesion: it is a guess, or what is hidden can still be told.</p>
    ${comparedTable(groupsOf(hidden.results))}
    ${hidden.results.map((result) => html`<p style="margin-top: 12px">${conclusion(result)}</p>`)}
    ${hidden.examples.map(drawExample)}
  </section>`
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)

/** All questions, and those that ask whether the finding is there: a right answer to these names it. */
function groupsOf(results: readonly HiddenResults[]): ComparedGroup[] {
  const rowsOf = (pick: (groups: GroupComparison[]) => GroupComparison | undefined) => {
    const visible = pick(results[0].visible)
    const hidden = results.map((result) => ({ name: capital(corruptionWords(result)), group: pick(result.hidden) }))
    return [{ name: 'Lesion in view', group: visible }, ...hidden].flatMap(({ name, group }) =>
      group ? [{ name, group }] : [],
    )
  }
  const presence = rowsOf((groups) => groups.find(({ kind, name }) => kind === 'ask' && name === 'presence'))
  return [
    { title: 'All of them: the answer is right', rows: rowsOf((groups) => groups[0]) },
    { title: 'Is it there? The finding is named', rows: presence },
  ].filter(({ rows }) => rows.length > 0)
}

/** In words that the numbers decide. */
export function conclusion(result: HiddenResults): string {
  const { fall, hidden } = result
  const way = capital(corruptionWords(result))
  const [overall] = hidden
  const falls = (round: 'before' | 'after') =>
    `${percent(fall[round].value)} points ${round} training ${intervalOfShares(fall[round])}`
  const effect = `${way}: accuracy falls by ${falls('before')}, by ${falls('after')}.`
  if (result.method === 'lesion-noise-elsewhere')
    return `${effect} The lesion stays in view here: this is what noise alone costs.`
  if (fall.before.low <= 0 && fall.after.low <= 0) {
    return `${effect} That this hides anything is not resolved, so it says nothing about answers without evidence.`
  }
  const shares = `${percent(overall.before.value)} % before, ${percent(overall.after.value)} % after, difference ${intervalOfPoints(overall.difference)}`
  const more =
    fall.change.low > 0
      ? 'Answers depend more on the lesion after training than before'
      : fall.change.high < 0
        ? 'Answers depend less on the lesion after training than before'
        : 'Whether answers depend more on the lesion after training is not resolved'
  const frequency = {
    loss: 'Right answers on such images became rarer',
    gain: 'Right answers on such images became more frequent',
    not_resolved: 'Whether right answers on such images became rarer is not resolved',
  }[overall.conclusion]
  const readable = fall.before.low <= 0 ? ' Before training, that this hides anything is not resolved.' : ''
  return `${effect}${readable} ${more}. ${frequency} (${shares}).`
}

function drawExample({ question, reference, visible, hidden }: HiddenExample): Html {
  const shown = (name: string, picture: Picture, answers: HiddenExample['visible']['answers']) => html`<figure>
      ${drawPicture(picture, name)}
      <figcaption>${name}</figcaption>
      ${(['before', 'after'] as const).map((round) => html`<div class="answer"><span class="role">${round}</span>${judged(answers[round])}</div>`)}
    </figure>`
  return html`<div class="example hidden">
    <p class="question">${said(question)} <span class="soft">(${said(reference)})</span></p>
    <div class="pictures">${shown('in view', visible.picture, visible.answers)}${hidden.map(({ method, sigma, picture, answers }) => shown(corruptionWords({ method, sigma }), picture, answers))}</div>
  </div>`
}
