/** What training did, step by step. */

import { type Html, html } from '../page/html.js'
import { counted } from '../settings/plural.js'
import { type CurveOptions, drawCurves, type Series } from './charts.js'
import type { ReportData } from './types.js'

interface Figure extends CurveOptions {
  title: string
  caption: string
}

/** Metric names are TRL's where TRL has one. */
const FIGURES: Figure[] = [
  {
    title: 'Loss',
    caption: 'The objective and its parts as they enter it, averaged over the pairs of a step.',
    yLabel: 'loss',
    series: [
      { key: 'loss', label: 'total', colour: 1 },
      { key: 'loss/base', label: 'text preference', colour: 2 },
      { key: 'loss/visual', label: 'visual preference', colour: 3 },
      { key: 'loss/kl', label: 'KL', colour: 4 },
      { key: 'loss/anchor', label: 'anchor', colour: 4 },
    ],
  },
  {
    title: 'Margins',
    caption:
      'How far the decisive phrases have moved apart, against the reference. The visual margin is that of the reversed pair on the corrupted image.',
    yLabel: 'margin',
    reference: 0,
    series: [
      { key: 'rewards/margins', label: 'text', colour: 2 },
      { key: 'rewards/visual/margins', label: 'visual', colour: 3 },
    ],
  },
  {
    title: 'Reward accuracy',
    caption:
      'Share of pairs with a positive margin. Where the noise hides little, the two terms compete and the visual share may stay below one half: that is the objective, not a fault.',
    yLabel: 'share of pairs',
    reference: 0.5,
    domain: [0, 1],
    series: [
      { key: 'rewards/accuracies', label: 'text', colour: 2 },
      { key: 'rewards/visual/accuracies', label: 'visual', colour: 3 },
    ],
  },
  {
    title: 'KL divergence at the phrases',
    caption: 'Per pair, summed over the phrase tokens of the chosen answer, in nats.',
    yLabel: 'nats',
    series: [
      { key: 'kl/forward', label: 'forward, KL(reference ‖ policy)', colour: 1 },
      { key: 'kl/reverse', label: 'reverse, KL(policy ‖ reference)', colour: 4 },
    ],
  },
]

export function trainingSection(data: ReportData): Html | null {
  const drawn = FIGURES.map((figure) => ({ figure, chart: drawCurves(data.metrics, figure) }))
  const present = drawn.filter(({ chart }) => chart !== null)
  if (present.length === 0) return null
  return html`<section>
    <h2>Training</h2>
    <p class="note">${counted(data.metrics.length, 'step')} of <code>${data.objective}</code>. Dots are single steps, lines a running mean.</p>
    <div class="grid">${present.map(({ figure, chart }) => drawFigure(figure, chart, data))}</div>
  </section>`
}

function drawFigure(figure: Figure, chart: Html | null, data: ReportData): Html {
  const held = (series: Series) => data.metrics.some((row) => Number.isFinite(row[series.key]))
  const legend = figure.series
    .filter(held)
    .map(({ label, colour }) => html`<span><i style="background: var(--series-${colour})"></i>${label}</span>`)
  return html`<figure><h3>${figure.title}</h3><div class="legend">${legend}</div>${chart}<figcaption>${figure.caption}</figcaption></figure>`
}
