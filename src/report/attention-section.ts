/** Where the decisive token looks, before and after training. */
import { type Html, html } from '../page/html.js'
import { drawPicture, type Heat } from '../page/picture.js'
import { highlight } from './pairs-section.js'
import type { AttentionExample, ReportData } from './types.js'

export function attentionSection(data: ReportData): Html | null {
  if (data.attention.length === 0) return null
  return html`<section>
    <h2>Attention over the image</h2>
    <p class="note">${data.attentionNote} Each map is scaled to its own maximum. The ratio is the attention inside the outline over the
    outline's share of the image: 1 means no preference. A few examples show what happened to them, not a trend.</p>
    ${data.attention.map(drawAttention)}
  </section>`
}

function drawAttention({ question, answer, picture, before, after, ratios }: AttentionExample): Html {
  const map = (heat: Heat, round: string, ratio: number) => html`<figure>
      ${drawPicture(picture, `attention ${round} training`, heat)}
      <figcaption>${round}${Number.isFinite(ratio) && html` · ratio ${ratio.toFixed(2)}`}</figcaption>
    </figure>`
  return html`<div class="example">
    <div class="pictures">
      <figure>${drawPicture(picture, 'image')}<figcaption>image</figcaption></figure>
      ${map(before, 'before', ratios.before)}${map(after, 'after', ratios.after)}
    </div>
    <div><p class="question">${question}</p><div class="answer">${highlight(answer.text, [answer.span], 'chosen')}</div></div>
  </div>`
}
