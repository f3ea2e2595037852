/**
 * The report of a run: one HTML file that opens from disk. Style, charts and images are inside it; it loads nothing, runs
 * nothing and says what was run.
 */
import { type Html, html } from '../page/html.js'
import { renderPage } from '../page/page.js'
import { duration } from '../text/duration.js'
import { trainingSection } from '../train/page/training-section.js'
import { accuracySection, changedSection, headlineSection } from './accuracy-section.js'
import { attentionSection } from './attention-section.js'
import { hiddenSection } from './hidden-section.js'
import { methodSection } from './method-section.js'
import { acceptanceSection, examplesSection } from './pairs-section.js'
import { roundsSection } from './rounds-section.js'
import { REPORT_STYLE } from './style.js'
import type { ReportData } from './types.js'

/** The page of a run as HTML text; pictures, style and data are inside, so the file needs nothing else. */
export function renderReport(data: ReportData): string {
  return renderPage(data.title, reportContent(data), REPORT_STYLE)
}

/** All of the page but its frame. */
export function reportContent(data: ReportData): Html {
  return html`<p class="soft">${data.facts.slice(0, 3).map(([label, value], i) => `${i > 0 ? ' · ' : ''}${label.toLowerCase()} ${value}`)}</p>
${headlineSection(data)}
${roundsSection(data)}
${methodSection(data)}
${accuracySection(data)}
${trainingSection(data)}
${hiddenSection(data)}
${acceptanceSection(data)}
${examplesSection(data)}
${attentionSection(data)}
${changedSection(data)}
${runSection(data)}`
}

function runSection(data: ReportData): Html {
  const total = data.stages.reduce((sum, stage) => sum + stage.seconds, 0)
  return html`<section>
    <h2>What was run</h2>
    <dl>${data.facts.map(([label, value]) => html`<dt>${label}</dt><dd>${value}</dd>`)}</dl>
    ${
      data.stages.length > 0 &&
      html`<table>
      <thead><tr><th>stage</th><th>time</th></tr></thead>
      <tbody>${data.stages.map(({ name, seconds }) => html`<tr><td>${name}</td><td>${duration(seconds)}</td></tr>`)}
      <tr class="total"><td>Total</td><td>${duration(total)}</td></tr></tbody>
    </table>`
    }
    ${data.config !== null && html`<details><summary>Resolved training configuration</summary><pre>${data.config}</pre></details>`}
  </section>`
}
