/** The pairs: how many answers became one, and what they look like. */
import { type Html, html } from '../page/html.js'
import { percent, said } from '../page/numbers.js'
import { drawPicture } from '../page/picture.js'
import { counted } from '../text/plural.js'
import type { ExamplePair, ReportData, Span } from './types.js'
import { corruptionWords, readable } from './words.js'

export function acceptanceSection(data: ReportData): Html | null {
  const { limits } = data
  if (!data.pairs) return null
  const { answers, pairs, byOrigin, byCategory, byRejection } = data.pairs
  const share = (count: number, of: number) =>
    html`<td class="number">${count}</td><td class="number">${percent(count / of)} %</td>`
  const descending = (counts: Record<string, number>) => Object.entries(counts).sort((a, b) => b[1] - a[1])
  const edits = Object.values(byCategory).reduce((sum, count) => sum + count, 0)
  return html`<section>
    <h2>From answers to pairs</h2>
    <div class="grid">
      <table>
        <thead><tr><th>answers of the model itself</th><th>count</th><th>share</th></tr></thead>
        <tbody>
          <tr class="total"><td>Sampled and judged</td>${share(answers, answers)}</tr>
          <tr><td>Wrong, repaired: own words rejected</td>${share(byOrigin.repaired, answers)}</tr>
          <tr><td>Right, falsified: own words chosen</td>${share(byOrigin.counterfactual, answers)}</tr>
          ${descending(byRejection).map(([reason, count]) => html`<tr><td class="soft">Left out: ${readable(reason)}</td>${share(count, answers)}</tr>`)}
          <tr class="total"><td>Pairs</td>${share(pairs, answers)}</tr>
        </tbody>
      </table>
      <table>
        <thead><tr><th>edits by category</th><th>count</th><th>share</th></tr></thead>
        <tbody>${descending(byCategory).map(([name, count]) => html`<tr><td>${readable(name)}</td>${share(count, edits)}</tr>`)}</tbody>
      </table>
    </div>
    ${limits && html`<p class="note" style="margin-top: 14px">${limitWords(limits)}</p>`}
  </section>`
}

/** The limits of an edit, as the run had them. */
function limitWords({ maxEditRatio, looseWords, maxWordsPerSentence }: NonNullable<ReportData['limits']>): string {
  const answer = `${percent(maxEditRatio, 0)} % of the words of an answer (${looseWords} words in any case)`
  return `An edit may change at most ${answer} and ${counted(maxWordsPerSentence, 'word')} of a sentence of a report.`
}

export function examplesSection(data: ReportData): Html | null {
  if (data.examples.length === 0) return null
  return html`<section>
    <h2>Pairs</h2>
    <p class="note">Both answers are equal but for the marked phrases, and only those are scored.${
      data.examples.some(({ clean }) => clean?.mask) &&
      ' The outline is the lesion, or the place where it would be; the noise of the corrupted twin is inside it.'
    }</p>
    ${data.examples.map(drawExample)}
  </section>`
}

function drawExample(example: ExamplePair): Html {
  const { clean, corrupted, corruption } = example
  const own = example.origin === 'repaired' ? 'rejected' : 'chosen'
  const side = (role: 'chosen' | 'rejected') => html`<div class="answer ${role}">
    <span class="role">${role}${role === own && ', the model’s own words'}</span>${highlight(example[role].text, example[role].spans, role)}</div>`
  return html`<div class="example">
    <div class="pictures">
      ${clean && html`<figure>${drawPicture(clean, 'clean image')}<figcaption>clean</figcaption></figure>`}
      ${corrupted && html`<figure>${drawPicture(corrupted, 'corrupted image')}<figcaption>${corruption && corruptionWords(corruption)}</figcaption></figure>`}
    </div>
    <div>
      <p class="question">${said(example.question)}</p>
      ${side('chosen')}${side('rejected')}
      <span class="tag">${readable(example.origin)}</span>${example.categories.map((name) => html`<span class="tag">${readable(name)}</span>`)}
    </div>
  </div>`
}

/** The text with each span in a `<mark>` of its role. Spans must ascend and not overlap, as those of a pair do. */
export function highlight(text: string, spans: readonly Span[], role: 'chosen' | 'rejected'): Html {
  if (text.trim() === '') return said(text)
  const parts: Html[] = []
  let cursor = 0
  for (const [start, end] of spans) {
    parts.push(html`${text.slice(cursor, start)}<mark class="${role}">${text.slice(start, end)}</mark>`)
    cursor = end
  }
  return html`<bdi>${parts}${text.slice(cursor)}</bdi>`
}
