/** Where the decisive token looks, before and after training. */
import { type Html, html } from '../page/html.js'
import { percent, said } from '../page/numbers.js'
import { drawPicture } from '../page/picture.js'
import { highlight } from './pairs-section.js'
import type { AttentionExample, ReportData } from './types.js'

export function attentionSection(data: ReportData): Html | null {
  if (data.attention.length === 0) return null
  return html`<section>
    <h2>Attention over the image</h2>
    <p class="note">${data.attentionNote} The ratio is the attention inside the outline over the
    outline's share of the image: 1 means no preference. A few examples show what happened to them, not a trend.</p>
    ${data.attention.map(drawAttention)}
  </section>`
}

type Grid = AttentionExample['before']

/** Both maps on one scale, so that they can be compared. */
function drawAttention({ question, answer, picture, before, after, ratios }: AttentionExample): Html {
  const peak = [before, after]
    .flatMap(({ values }) => Array.from(values))
    .reduce((most, value) => Math.max(most, value), 0)
  const map = (grid: Grid, round: string, ratio: number) => html`<figure>
      ${drawPicture(picture, `attention ${round} training`, { ...grid, peak })}
      <figcaption>${round}${Number.isFinite(ratio) && html` · ratio ${ratio.toFixed(2)}`}</figcaption>
    </figure>`
  return html`<div class="example">
    <div class="pictures">
      <figure>${drawPicture(picture, 'image')}<figcaption>image</figcaption></figure>
      ${map(before, 'before', ratios.before)}${map(after, 'after', ratios.after)}
    </div>
    <div><p class="question">${said(question)}</p><div class="answer">${highlight(answer.text, [answer.span], 'chosen')}</div>
      <p class="scale">0 <i></i> ${percent(peak)} % of all attention, in one cell</p></div>
  </div>`
}
