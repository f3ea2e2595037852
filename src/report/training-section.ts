/** What training did, step by step. */

import { type Html, html } from '../page/html.js'
import { counted } from '../text/plural.js'
import { type CurveOptions, drawCurves, type Series } from './charts.js'
import { traitsOf } from './method-section.js'
import type { ReportData } from './types.js'

interface Figure extends CurveOptions {
  title: string
  caption: (objective: ReportData['objective']) => string
}

/** Metric names are TRL's where TRL has one. */
const FIGURES: Figure[] = [
  {
    title: 'Loss',
    caption: () => 'The loss and its terms as they enter it, averaged over the pairs of a step.',
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
    caption: (objective) => `m[(v, y⁺) ≻ (v, y⁻)] is the text margin, in the formula above. ${visualMargin(objective)}`,
    yLabel: 'margin',
    reference: 0,
    series: [
      { key: 'rewards/margins', label: 'text', colour: 2 },
      { key: 'rewards/visual/margins', label: 'visual', colour: 3 },
    ],
  },
  {
    title: 'Reward accuracy',
    caption: () => 'Share of pairs whose margin is above 0.',
    yLabel: 'share of pairs',
    reference: 0.5,
    domain: [0, 1],
    series: [
      { key: 'rewards/accuracies', label: 'text', colour: 2 },
      { key: 'rewards/visual/accuracies', label: 'visual', colour: 3 },
    ],
  },
  {
    title: 'KL divergence from the model as it was',
    caption: () => 'Of one pair, summed over the tokens of the chosen answer that the term reads, in nats.',
    yLabel: 'nats',
    series: [
      { key: 'kl/forward', label: 'forward, KL(reference ‖ policy)', colour: 1 },
      { key: 'kl/reverse', label: 'reverse, KL(policy ‖ reference)', colour: 4 },
    ],
  },
]

/** What the visual margin compares, what its sign means, and why it may end below 0. */
function visualMargin(objective: ReportData['objective']): string {
  const visual = objective && traitsOf(objective.name)?.visual
  if (!visual) return ''
  const { chosen, rejected } = visual
  const what = `m[${sequenceWords(chosen)} ≻ ${sequenceWords(rejected)}] is the visual one`
  if (chosen === 'chosen')
    return `${what}: above 0 the true phrase is likelier with the lesion in view than on the twin.`
  const turned =
    'Above 0 the model has turned to the false phrase where the lesion is hidden; below 0 it keeps to the true one.'
  return `${what}: the reversed pair, on the corrupted twin. ${turned} ${competition(Number(objective.coefficients.gamma))}`
}

/** Where both terms pull at one margin; docs/objectives.md has the reason. */
function competition(gamma: number): string {
  if (!(gamma > 0 && gamma < 1)) return ''
  const meet = Math.log(1 / gamma).toFixed(1)
  return `On a twin that hides nothing both terms pull at one margin from two sides, and it settles near ln(1/γ) = ${meet} for the text, −${meet} for the visual one: a visual margin below 0 is then no fault, but a sign that the corruption hides little.`
}

const sequenceWords = (of: string) =>
  `(${of.startsWith('corrupted') ? 'v′' : 'v'}, ${/rejected/i.test(of) ? 'y⁻' : 'y⁺'})`

export function trainingSection(data: ReportData): Html | null {
  const drawn = FIGURES.map((figure) => ({ figure, chart: drawCurves(data.metrics, figure) }))
  const present = drawn.filter(({ chart }) => chart !== null)
  if (present.length === 0) return null
  return html`<section>
    <h2>Training</h2>
    <p class="note">${counted(data.metrics.filter(({ loss }) => loss !== undefined).length, 'step')} of <code>${data.objective?.name}</code>. Dots are single steps, lines a running mean.</p>
    <div class="grid">${present.map(({ figure, chart }) => drawFigure(figure, chart, data))}</div>
  </section>`
}

function drawFigure(figure: Figure, chart: Html | null, data: ReportData): Html {
  const held = (series: Series) => data.metrics.some((row) => Number.isFinite(row[series.key]))
  const legend = figure.series
    .filter(held)
    .map(({ label, colour }) => html`<span><i style="background: var(--series-${colour})"></i>${label}</span>`)
  return html`<figure><h3>${figure.title}</h3><div class="legend">${legend}</div>${chart}<figcaption>${figure.caption(data.objective)}</figcaption></figure>`
}
