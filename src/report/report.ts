/**
 * The report of a run: one HTML file that opens from disk. Style, charts and images are inside it; it loads nothing, runs
 * nothing and says what was run.
 */

import { type Html, html, trusted } from '../page/html.js'
import { STYLE } from '../page/style.js'
import { accuracySection, changedSection, headlineSection } from './accuracy-section.js'
import { attentionSection } from './attention-section.js'
import { acceptanceSection, examplesSection } from './pairs-section.js'
import { trainingSection } from './training-section.js'
import type { ReportData } from './types.js'
import { duration } from './words.js'

/** A browser that honours this will load nothing even if an escape were missed. */
const POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

/** @returns the whole page as text, UTF-8 without forbidden characters. */
export function renderReport(data: ReportData): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<title>${data.title}</title>
<style>${trusted(STYLE)}</style>
</head>
<body>
<main>
<h1>${data.title}</h1>
<p class="soft">${data.facts.slice(0, 3).map(([label, value], i) => `${i > 0 ? ' · ' : ''}${label.toLowerCase()} ${value}`)}</p>
${headlineSection(data)}
${accuracySection(data)}
${trainingSection(data)}
${acceptanceSection(data)}
${examplesSection(data)}
${attentionSection(data)}
${changedSection(data)}
${runSection(data)}
</main>
</body>
</html>
`.markup
}

function runSection(data: ReportData): Html {
  const total = data.stages.reduce((sum, stage) => sum + stage.seconds, 0)
  return html`<section>
    <h2>What was run</h2>
    <dl>${data.facts.map(([label, value]) => html`<dt>${label}</dt><dd>${value}</dd>`)}</dl>
    ${
      data.stages.length > 0 &&
      html`<div class="scroll"><table>
      <thead><tr><th>stage</th><th>time</th></tr></thead>
      <tbody>${data.stages.map(({ name, seconds }) => html`<tr><td>${name}</td><td>${duration(seconds)}</td></tr>`)}
      <tr class="total"><td>Total</td><td>${duration(total)}</td></tr></tbody>
    </table></div>`
    }
    ${data.config && html`<details><summary>Resolved training configuration</summary><pre>${data.config}</pre></details>`}
  </section>`
}
