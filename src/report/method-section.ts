/** What the run does, as a picture and as the formula of its loss, for a reader who has not met the method. */

import { type ObjectiveTraits, readsTwin, type Sequence } from '../engine/objectives.js'
import { type Html, html } from '../page/html.js'
import { traitsOf } from '../train/page/objective.js'
import type { ReportData } from './types.js'

export function methodSection({ objective }: ReportData): Html | null {
  const traits = objective && traitsOf(objective.name)
  if (!traits) return null
  return html`<section>
    <h2>The method</h2>
    <ol class="steps">${stepsOf(objective.scope === 'phrase', readsTwin(traits)).map(({ title, drawing, text }, i) => html`<li><h3>${i + 1}. ${title}</h3>${drawing}${text}</li>`)}</ol>
    <div class="formula">${formula(objective.name, traits)}</div>
    <ul class="definitions">${definitions(objective, traits)}</ul>
  </section>`
}

interface Step {
  title: string
  drawing: Html
  text: Html
}

const width = 230
const frame = (content: Html) => html`<svg viewBox="0 0 ${width} 104" aria-hidden="true">${content}</svg>`

function stepsOf(phrases: boolean, twin: boolean): Step[] {
  const right = html`<mark class="chosen">large</mark>`
  const wrong = html`<mark class="rejected">small</mark>`
  const steps: (Step | false)[] = [
    {
      title: 'The model answers',
      drawing: frame(chest(67, false)),
      text: html`<p>“What size is the nodule?”</p><p>The model’s own words: “The nodule is small.” A judge says: wrong.</p>`,
    },
    {
      title: 'An edit makes a pair',
      drawing: frame(html`${words(22, 'var(--gain)')}${words(66, 'var(--loss)')}`),
      text: html`<p>y⁺ The nodule is ${right}.</p><p>y⁻ The nodule is ${wrong}.</p><p>The smallest edit: a wrong answer is repaired, a right one falsified.</p>`,
    },
    twin && {
      title: 'The image gets a twin',
      drawing: frame(html`${chest(4, false)}${chest(130, true)}`),
      text: html`<p>Left the image v; right its twin v′, corrupted where the lesion is.</p>`,
    },
    {
      title: phrases ? 'Only the edit is scored' : 'All words are scored',
      drawing: frame(lossDrawing(phrases)),
      text: phrases
        ? html`<p>The loss makes y⁺ more likely than y⁻ at the marked words. All others have no weight.</p>`
        : html`<p>The loss makes y⁺ more likely than y⁻, by all of their words.</p>`,
    },
  ]
  return steps.filter((step) => step !== false)
}

/** A radiograph, 96 by 96, with a nodule or noise in its place. */
function chest(x: number, isHidden: boolean): Html {
  const place = html`<circle cx="69" cy="62" r="9" fill="#c9ced6"/>`
  return html`<g transform="translate(${x} 4)"><rect width="96" height="96" rx="6" fill="#14181d"/>
    <path d="M14 96V40Q16 14 48 12Q80 14 82 40V96Z" fill="#6d747d"/>
    <ellipse cx="30" cy="50" rx="13" ry="28" fill="#30363d"/><ellipse cx="66" cy="50" rx="13" ry="28" fill="#30363d"/>
    <ellipse cx="51" cy="66" rx="13" ry="11" fill="#9aa1aa"/>${isHidden ? noise() : place}
    <circle cx="69" cy="62" r="12.5" fill="none" stroke="#ffd23f" stroke-width="1.5"/></g>`
}

const noiseColours = ['#e4572e', '#17bebb', '#ffc914', '#76b041', '#8f6bd6', '#f2f4f7', '#2e282a']

function noise(): Html {
  const cells = Array.from({ length: 36 }, (_, i) => [i % 6, Math.floor(i / 6)]).filter(
    ([x, y]) => Math.hypot(x - 2.5, y - 2.5) < 3.2,
  )
  return html`${cells.map(([x, y]) => html`<rect x="${57 + 4 * x}" y="${50 + 4 * y}" width="4" height="4" fill="${noiseColours[(5 * x + 3 * y) % 7]}"/>`)}`
}

const wordWidths = [34, 58, 22, 52]

/** An answer as bars, one a word; the last is the decisive one. */
function words(y: number, colour: string, isMasked = false): Html {
  const starts = wordWidths.map((_, i) => 22 + wordWidths.slice(0, i).reduce((sum, each) => sum + each + 7, 0))
  return html`${wordWidths.map((each, i) => {
    const [fill, opacity] = i === wordWidths.length - 1 ? [colour, 1] : ['var(--soft)', isMasked ? 0.15 : 0.45]
    return html`<rect x="${starts[i]}" y="${y}" width="${each}" height="16" rx="4" fill="${fill}" opacity="${opacity}"/>`
  })}`
}

/** Both answers, and the slope that a margin is pushed along. */
function lossDrawing(isMasked: boolean): Html {
  const curve = Array.from({ length: 33 }, (_, i) => {
    const margin = (i - 16) / 4
    return `${(30 + 5.4 * i).toFixed(1)} ${(98 - 11 * Math.log1p(Math.exp(-margin))).toFixed(1)}`
  })
  const row = (y: number, colour: string) => words(y, colour, isMasked)
  return html`${row(4, 'var(--gain)')}${row(26, 'var(--loss)')}<path d="M30 100H203" stroke="var(--line)" stroke-width="1.5"/><path d="M${curve.join('L')}" fill="none" stroke="var(--series-2)" stroke-width="2.5"/>`
}

const signed = (name: string, sign: string) => html`<msup><mi>${name}</mi><mo>${sign}</mo></msup>`

/** Image and answer, as `(v′, y⁻)`. */
function sequence(of: Sequence): Html {
  const image = of.startsWith('corrupted') ? signed('v', '′') : html`<mi>v</mi>`
  return html`<mrow><mo>(</mo>${image}<mo>,</mo>${signed('y', /rejected/i.test(of) ? '−' : '+')}<mo>)</mo></mrow>`
}

const preference = (chosen: Sequence, rejected: Sequence) =>
  html`<mi>ℓ</mi><mo>(</mo><mi>m</mi><mo>[</mo>${sequence(chosen)}<mo>≻</mo>${sequence(rejected)}<mo>]</mo><mo>)</mo>`

const reference = html`<msub><mi>π</mi><mtext>ref</mtext></msub>`
const divergence = (from: Html, to: Html) => html`<mi>KL</mi><mo>(</mo>${from}<mo>‖</mo>${to}<mo>)</mo>`
const forward = divergence(reference, html`<mi>π</mi>`)
const mixed = html`<mo>[</mo><mi>λ</mi>${forward}<mo>+</mo><mo>(</mo><mn>1</mn><mo>−</mo><mi>λ</mi><mo>)</mo>${divergence(html`<mi>π</mi>`, reference)}<mo>]</mo>`

/** The terms of the loss, in the colours of their curves. */
function formula(
  name: string,
  { formula: written, summary, visual, terms: weights, forwardKl }: ObjectiveTraits,
): Html {
  const term = (colour: number, content: Html, words: string) =>
    html`<div class="term" style="border-color: var(--series-${colour})"><math><mrow>${content}</mrow></math><small>${words}</small></div>`
  if (written !== null)
    return html`<div class="term" style="border-color: var(--series-2)"><code>L = ${written}</code><small>${summary}</small></div>`
  const terms: Html[] = [
    name === 'sft'
      ? term(
          2,
          html`<mo>−</mo><mi>log</mi><mi>π</mi>${sequence('chosen')}`,
          'likelihood of the chosen answer, for each token',
        )
      : term(2, preference('chosen', 'rejected'), 'text: prefer the chosen phrase on the image'),
  ]
  if (visual) {
    const { chosen, rejected } = visual
    const content = html`${weights.visual === 'gamma' && html`<mi>γ</mi>`}${preference(chosen, rejected)}`
    terms.push(term(3, content, visualWords(visual)))
  }
  if (name === 'mdpo') {
    const content = html`<mi>ℓ</mi><mo>(</mo><mi>β</mi><mi>log</mi><mi>π</mi>${sequence('chosen')}<mo>−</mo><mi>β</mi><mi>log</mi>${reference}${sequence('chosen')}<mo>)</mo>`
    terms.push(term(4, content, 'anchor: the chosen answer itself becomes more likely'))
  }
  if (forwardKl !== null) {
    const content = html`<mi>α</mi>${forwardKl === 'lambda' ? mixed : forward}`
    terms.push(term(4, content, 'KL: stay close to the model as it was'))
  }
  return html`<span><math><mi>L</mi><mo>=</mo></math></span>${terms.map((each, i) => html`${i > 0 && html`<span>+</span>`}${each}`)}`
}

/** What the visual term asks for. */
function visualWords({ chosen }: NonNullable<ObjectiveTraits['visual']>): string {
  return chosen === 'chosen'
    ? 'visual: prefer the image with its lesion over the twin'
    : 'visual: with the lesion hidden the preference is reversed'
}

function definitions({ scope, coefficients }: NonNullable<ReportData['objective']>, traits: ObjectiveTraits): Html[] {
  const over = scope === 'phrase' ? 'over the marked words only' : 'over the whole answer'
  const ratio = (of: string) =>
    html`<mo>log</mo><mi>π</mi><mo>(</mo><mi>${of}</mi><mo>)</mo><mo>−</mo><mo>log</mo>${reference}<mo>(</mo><mi>${of}</mi><mo>)</mo>`
  const margin = html`<math><mi>m</mi><mo>[</mo><mi>a</mi><mo>≻</mo><mi>b</mi><mo>]</mo></math> = <math><mi>β</mi><mo>(</mo>${ratio('a')}<mo>)</mo></math> − <math><mi>β</mi><mo>(</mo>${ratio('b')}<mo>)</mo></math>`
  const usesMargin = traits.coefficients.beta !== undefined && traits.formula === null
  const values = Object.entries(coefficients).map(([name, value]) => `${SYMBOLS[name] ?? name} = ${value}`)
  const lines: (Html | false)[] = [
    usesMargin && html`${margin}, the margin of a over b, with log-probabilities summed ${over}`,
    usesMargin &&
      html`<math><mi>ℓ</mi><mo>(</mo><mi>u</mi><mo>)</mo><mo>=</mo><mo>−</mo><mi>log</mi><mi>σ</mi><mo>(</mo><mi>u</mi><mo>)</mo></math>: small when the margin is large`,
    traits.formula !== null &&
      html`d = log π − log ${reference}, summed ${over}, of y⁺ or y⁻ on the image v unless said; m = β(d⁺ − d⁻), ℓ(u) = −log σ(u); docs/objectives.md has the other letters`,
    html`π is the model in training, <math>${reference}</math> the frozen reference, as a rule the same model before this training (lora.reference)`,
    values.length > 0 && html`In this run ${values.join(', ')}`,
  ]
  return lines.filter((line) => line !== false).map((line) => html`<li>${line}</li>`)
}

const SYMBOLS: Record<string, string> = {
  beta: 'β',
  alpha: 'α',
  gamma: 'γ',
  lambda: 'λ',
  klReduction: 'KL over the tokens',
}
