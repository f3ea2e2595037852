/** What training did, step by step. */

import { type Html, html } from '../../page/html.js'
import { counted } from '../../text/plural.js'
import type { LogRow } from '../metrics.js'
import { type CurveOptions, drawCurves, type Series, stepsOfDot } from './curves.js'
import { type ShownObjective, traitsOf } from './objective.js'

/** A run as its curves need it. */
export interface TrainingData {
  metrics: readonly LogRow[]
  objective: ShownObjective | null
}

export interface Figure extends CurveOptions {
  title: string
  caption: (objective: ShownObjective | null) => string
}

/** Metric names are TRL's where TRL has one. */
const FIGURES: readonly Figure[] = [
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
    caption: (objective) => `m[(v, y⁺) ≻ (v, y⁻)] is the text margin. ${visualMargin(objective)}`,
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
  {
    title: 'Gradient norm',
    caption: () => 'Before it is clipped to maxGradNorm.',
    yLabel: 'norm',
    series: [{ key: 'grad_norm', label: 'gradient', colour: 1 }],
  },
  {
    title: 'Time of a step',
    caption: () => 'What the engine computed, and what it waited for images to be read and decoded.',
    yLabel: 'seconds',
    series: [
      { key: 'engine_time', label: 'engine', colour: 1 },
      { key: 'data_time', label: 'waiting for images', colour: 2 },
    ],
  },
]

/** Keys of what is measured on pairs that are not trained on. */
const heldOut = 'eval_'

/** What these rows can show: the same of held-out pairs, and each further metric of theirs by itself. */
export function figuresOf(rows: readonly LogRow[]): Figure[] {
  const keys = [...new Set(rows.flatMap((row) => Object.keys(row)))]
  const asTrained = FIGURES.map((figure) => ({
    ...figure,
    title: `Held-out pairs: ${figure.title.toLowerCase().replace('kl', 'KL')}`,
    caption: () => 'The same on pairs that are not trained on.',
    series: figure.series.map((series) => ({ ...series, key: `${heldOut}${series.key}` })),
  }))
  const drawn = new Set(asTrained.flatMap(({ series }) => series.map(({ key }) => key)))
  const further = keys
    .filter((key) => key.startsWith(heldOut) && !drawn.has(key) && !/runtime$|_time$|_per_second$|_error$/.test(key))
    .map((key): Figure => {
      const name = key.slice(heldOut.length)
      return {
        ...{ title: `Held-out pairs: ${name}`, caption: () => 'On pairs that are not trained on.', yLabel: name },
        series: [{ key, label: name, colour: 1 }],
      }
    })
  return [...FIGURES, ...asTrained, ...further].filter(({ series }) => series.some(({ key }) => keys.includes(key)))
}

/** What the visual margin compares, what its sign means, and why it may end below 0. */
function visualMargin(objective: ShownObjective | null): string {
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

export function trainingSection({ metrics, objective }: TrainingData): Html | null {
  const drawn = figuresOf(metrics).map((figure) => ({ figure, chart: drawCurves(metrics, figure) }))
  const present = drawn.filter(({ chart }) => chart !== null)
  if (present.length === 0) return null
  const size = stepsOfDot(metrics.filter(({ loss }) => Number.isFinite(loss)).length)
  const dot = size === 1 ? 'Dots are single steps' : `Dots are means of ${size} steps`
  return html`<section>
    <h2>Training</h2>
    <p class="note">${counted(metrics.filter(({ loss }) => loss !== undefined).length, 'step')} of <code>${objective?.name}</code>. ${dot}, lines a running mean.</p>
    <div class="grid">${present.map(({ figure, chart }) => drawFigure(figure, chart, { metrics, objective }))}</div>
  </section>`
}

function drawFigure(figure: Figure, chart: Html | null, { metrics, objective }: TrainingData): Html {
  const held = (series: Series) => metrics.some((row) => Number.isFinite(row[series.key]))
  const legend = figure.series
    .filter(held)
    .filter(({ label }) => label !== figure.yLabel)
    .map(({ label, colour }) => html`<span><i style="background: var(--series-${colour})"></i>${label}</span>`)
  return html`<figure><h3>${figure.title}</h3><div class="legend">${legend}</div>${chart}<figcaption>${figure.caption(objective)}</figcaption></figure>`
}
