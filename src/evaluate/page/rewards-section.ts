/** What adapters reward: right over wrong, or one style over the other; and how that grew along training. */
import * as Plot from '@observablehq/plot'
import { drawChart, tickFormat } from '../../page/chart.js'
import { type Html, html } from '../../page/html.js'
import { intervalOfShares, percent } from '../../page/numbers.js'
import type { Proportion } from '../../statistics/index.js'
import type { AlongTraining, TrainingPoint } from '../along.js'
import type { CrossedResults, RewardResults } from '../rewards/summary.js'
import type { EvaluationFolder } from './folder.js'
import { systemName } from './systems.js'
import { meanCells, present, type Section, tableOf } from './table.js'
import { decimal, decimalInterval } from './words.js'

const share = (proportion: Proportion): Html =>
  html`${percent(proportion.value)} <small>${intervalOfShares(proportion)}</small>`

/** Its columns of a CSV file. */
const numbersOf = (name: string, { value, low, high }: Proportion) => ({
  [name]: value,
  [`${name}Low`]: low,
  [`${name}High`]: high,
})

export function rewardsSection({ results }: EvaluationFolder): Section | null {
  const table = tableOf<RewardResults>({
    name: 'rewards',
    rows: results.rewards,
    above: ({ pairs }) => pairs,
    columns: [
      { label: 'system', show: ({ system }) => systemName(results, system) },
      { label: 'reward accuracy, %', show: ({ accuracy }) => share(accuracy.answer) },
      { label: 'of the phrases, %', show: ({ accuracy }) => share(accuracy.phrases) },
      {
        label: 'margin, nats',
        show: ({ margin }) =>
          html`${decimal(margin.answer.value)} <small>${decimalInterval(margin.answer.interval)}</small>`,
      },
      { label: 'pairs', show: ({ count }) => count },
      { label: 'image trained on', show: ({ seen }) => seen },
    ],
    data: ({ system, pairs, count, images, seen, accuracy, margin }) => ({
      ...{ system, pairs, count, images, seen },
      ...numbersOf('accuracy', accuracy.answer),
      ...numbersOf('phraseAccuracy', accuracy.phrases),
      ...meanCells('margin', margin.answer),
      ...meanCells('phraseMargin', margin.phrases),
    }),
  })
  if (!table) return null
  const title = 'Rewards of pairs'
  return {
    title,
    tables: [table],
    html: html`<h2>${title}</h2>
      <p class="note">Reward accuracy: share of pairs whose chosen side gains more from the adapter than the rejected one, by all tokens and by
      the decisive phrases alone. Margin: chosen less rejected, β not applied. Intervals of margins are by image (bootstrap,
      seed ${results.seed}; none below 20 images); those of shares are Wilson’s, which take pairs as independent.</p>${table.html}`,
  }
}

interface CrossedRow extends CrossedResults {
  system: string
  pairs: string
}

/** Whether style is rewarded in place of content. */
export function crossedSection({ results }: EvaluationFolder): Section | null {
  const rows = results.rewards.flatMap(({ system, pairs, crossed }): CrossedRow[] =>
    crossed ? [{ system, pairs, ...crossed }] : [],
  )
  const effect = (name: keyof CrossedResults['effects'], label: string) => ({
    label: `${label}, nats`,
    show: ({ effects }: CrossedRow) =>
      html`${decimal(effects[name].value, 2)} <small>${decimalInterval(effects[name].interval, 2)}</small>`,
  })
  const table = tableOf<CrossedRow>({
    name: 'crossed',
    rows,
    above: ({ pairs }) => pairs,
    columns: [
      { label: 'system', show: ({ system }) => systemName(results, system) },
      { label: 'both reference, %', show: ({ bothReference }) => share(bothReference) },
      { label: 'both own, %', show: ({ bothOwn }) => share(bothOwn) },
      { label: 'right own, wrong reference, %', show: ({ rightOwn }) => share(rightOwn) },
      { label: 'right reference, wrong own, %', show: ({ rightReference }) => share(rightReference) },
      effect('content', 'content'),
      effect('style', 'style'),
      { label: 'items', show: ({ items }) => items },
    ],
    data: ({ system, pairs, items, words, logRatios, effects, styleGap, ...shares }) => ({
      ...{ system, pairs, items, referenceWords: words.reference, ownWords: words.own },
      ...Object.assign({}, ...Object.entries(shares).map(([name, value]) => numbersOf(name, value))),
      ...meanCells('styleGap', styleGap),
      ...meanCells('content', effects.content),
      ...meanCells('style', effects.style),
      ...logRatios,
    }),
  })
  if (!table) return null
  const [{ words }] = rows
  const title = 'Crossed probe: content or style'
  return {
    title,
    tables: [table],
    html: html`<h2>${title}</h2>
      <p class="note">Right and wrong, each in the reference’s style (${decimal(words.reference, 1)} words) and in the model’s own
      (${decimal(words.own, 1)} words). Shares of items whose right text has the higher reward. An adapter that rewards the reference’s style
      instead of content is low in “right own, wrong reference” and high in “right reference, wrong own”. Content and style: main effects on the log-ratio.</p>${table.html}`,
  }
}

export function trainingSection({ results: { training }, results }: EvaluationFolder): Section | null {
  if (!training) return null
  const files = [...new Set(training.points.flatMap(({ rewards }) => rewards.map(({ pairs }) => pairs)))]
  const ofFile = ({ rewards }: TrainingPoint, file: string) =>
    rewards.find(({ pairs }) => pairs === file)?.accuracy.answer
  const table = tableOf<TrainingPoint>({
    name: 'training',
    rows: training.points,
    isSmall: files.length < 3,
    columns: [
      { label: 'system', show: ({ system }) => systemName(results, system) },
      { label: 'step', show: ({ step }) => step },
      { label: 'accuracy, %', show: ({ accuracy }) => share(accuracy) },
      { label: 'words', show: ({ words }) => decimal(words, 2) },
      ...files.map((file) => ({
        label: `reward accuracy on ${file}, %`,
        show: (point: TrainingPoint) => {
          const found = ofFile(point, file)
          return found ? share(found) : '–'
        },
      })),
    ],
    data: (point) => ({
      step: point.step,
      system: point.system,
      ...numbersOf('accuracy', point.accuracy),
      words: point.words,
      ...Object.fromEntries(files.map((file) => [`reward accuracy on ${file}`, ofFile(point, file)?.value ?? null])),
    }),
  })
  const title = 'Along training'
  return {
    title,
    tables: present(table),
    html: html`<h2>${title}</h2>
      <p class="note">Step 0 is the model alone. Reward accuracy that rises while accuracy does not, or while answers shrink towards the
      references, is a sign that something else than content is learnt.</p>
      <div class="legend"><span class="system c0"><i></i>accuracy of answers</span>${files.map((file, i) => html`<span class="system c${1 + (i % 4)}"><i></i>reward accuracy: ${file}</span>`)}</div>
      <div class="grid"><figure><h4>Accuracy, %</h4>${drawShares(training, files)}</figure>
      <figure><h4>Words an answer; dashed: the references</h4>${drawWords(training)}</figure></div>${table?.html}`,
  }
}

const colours = ['var(--before)', 'var(--series-1)', 'var(--series-2)', 'var(--series-3)', 'var(--series-4)']
const x = { label: 'optimizer steps' }

function drawShares({ points }: AlongTraining, files: readonly string[]): Html {
  const answers = points.map(({ step, accuracy }) => ({ step, ...accuracy }))
  const series = files.map((file) =>
    points.flatMap(({ step, rewards }) =>
      rewards.filter(({ pairs }) => pairs === file).map(({ accuracy }) => ({ step, ...accuracy.answer })),
    ),
  )
  const marks = [answers, ...series].flatMap((line, i) => {
    const colour = colours[i === 0 ? 0 : 1 + ((i - 1) % 4)]
    const inPercent = line.map(({ step, value, low, high }) => ({
      ...{ step, value: 100 * value, low: 100 * low, high: 100 * high },
    }))
    return [
      Plot.areaY(inPercent, { x: 'step', y1: 'low', y2: 'high', fill: colour, fillOpacity: 0.14 }),
      Plot.lineY(inPercent, { x: 'step', y: 'value', stroke: colour, strokeWidth: 2 }),
      Plot.dot(inPercent, { x: 'step', y: 'value', fill: colour, r: 3 }),
    ]
  })
  return drawChart({ marginLeft: 48, marginBottom: 38, x, y: { label: null, grid: true, ticks: 5, tickFormat }, marks })
}

function drawWords({ points, referenceWords }: AlongTraining): Html {
  const marks = [
    Plot.ruleY([referenceWords], { stroke: 'var(--soft)', strokeDasharray: '4 3' }),
    Plot.lineY(points, { x: 'step', y: 'words', stroke: colours[0], strokeWidth: 2 }),
    Plot.dot(points, { x: 'step', y: 'words', fill: colours[0], r: 3 }),
  ]
  const y = { label: null, grid: true, ticks: 5, tickFormat, zero: true, nice: true }
  return drawChart({ marginLeft: 48, marginBottom: 38, x, y, marks })
}
