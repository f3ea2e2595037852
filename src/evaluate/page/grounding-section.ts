/** Where models look, layer by layer, and the one number that was chosen beforehand. */
import * as Plot from '@observablehq/plot'
import { drawChart, tickFormat } from '../../page/chart.js'
import { type Html, html } from '../../page/html.js'
import { pValue, said } from '../../page/numbers.js'
import type { EvaluationResults } from '../finished.js'
import type { GroundingResults, LayerMean } from '../grounding/summary.js'
import type { EvaluationFolder } from './folder.js'
import { colourOf, systemName } from './systems.js'
import { present, type Section, tableOf } from './table.js'
import { decimal, decimalInterval, signed } from './words.js'

type Measure = keyof GroundingResults['layers']

const measures = ['ar', 'kl', 'js', 'mass', 'shiftedAr'] as const satisfies readonly Measure[]

const measureWords: Record<Exclude<Measure, 'shiftedAr'>, string> = {
  ar: 'Attention ratio (AR); dashed: the same region moved elsewhere',
  kl: 'Kullback-Leibler divergence (KL)',
  js: 'Jensen-Shannon divergence (JS)',
  mass: 'Share of attention on the image',
}

/** @param maps drawn beforehand, since pictures are read from files. */
export function groundingSection({ results, grounding }: EvaluationFolder, maps: Html | null): Section | null {
  if (grounding.results.length === 0) return null
  const numbers = tableOf<GroundingResults>({
    name: 'grounding',
    rows: [...grounding.results].sort((a, b) => (a.kind === b.kind ? 0 : a.kind === 'localization' ? -1 : 1)),
    above: ({ kind }) =>
      kind === 'localization' ? 'localization: the number to conclude from' : `${kind}: exploratory`,
    columns: [
      { label: 'system', show: ({ system }) => systemName(results, system) },
      {
        label: 'AR, last third',
        show: ({ headline }) => html`${decimal(headline.value)} <small>${decimalInterval(headline.interval)}</small>`,
      },
      { label: 'questions', show: ({ measured }) => measured },
      { label: 'images', show: ({ images }) => images },
      {
        label: 'left out',
        show: ({ skipped }) =>
          html`${Object.values(skipped).reduce((a, b) => a + b, 0)}${Object.entries(skipped).map(([reason, count]) => html` <small>${count}: ${said(reason)}</small>`)}`,
      },
    ],
    data: ({ system, kind, measured, images, skipped, headline }) => ({
      system,
      kind,
      measured,
      images,
      skipped: Object.values(skipped).reduce((a, b) => a + b, 0),
      value: headline.value,
      low: headline.interval?.low ?? null,
      high: headline.interval?.high ?? null,
    }),
  })
  const compared = tableOf({
    name: 'grounding-comparisons',
    rows: grounding.comparisons,
    above: ({ system, baseline }) => `${system} − ${baseline}`,
    columns: [
      {
        label: 'kind',
        show: ({ kind }) => (kind === 'localization' ? kind : html`${kind} <small>exploratory</small>`),
      },
      { label: 'n', show: ({ both }) => both },
      { label: 'difference of AR', show: ({ difference }) => signed(difference.value) },
      { label: 'cluster interval', show: ({ difference }) => decimalInterval(difference.interval) },
      { label: 'sign-flip p', show: ({ p }) => (p === null ? '–' : pValue(p)) },
    ],
    data: ({ system, baseline, kind, both, difference, p }) => ({
      system,
      baseline,
      kind,
      both,
      difference: difference.value,
      low: difference.interval?.low ?? null,
      high: difference.interval?.high ?? null,
      signFlip: p,
    }),
  })
  const layers = tableOf({
    name: 'grounding-layers',
    rows: grounding.results.flatMap(({ system, kind, layers }) =>
      measures.flatMap((measure) =>
        layers[measure].map(({ value, low, high }, layer) => ({ system, kind, measure, layer, value, low, high })),
      ),
    ),
    columns: [],
    data: (row) => row,
  })
  const kinds = [...new Set(grounding.results.map(({ kind }) => kind))]
  const title = 'Grounding: attention on the region that answers'
  return {
    title,
    tables: present(numbers, compared, layers),
    html: html`<h2>${title}</h2>
      <p class="note">AR: attention inside the region over its attention under a general prompt; 1 means no difference. The number in the table is
      the mean over the last third of the layers, with a cluster interval by image.</p>
      ${numbers?.html}${compared && html`<h3 class="part">Systems on the same questions</h3>${compared.html}`}
      ${kinds.map((kind) =>
        drawKind(
          results,
          grounding.results.filter((each) => each.kind === kind),
        ),
      )}${maps}`,
  }
}

function drawKind(results: EvaluationResults, systems: readonly GroundingResults[]): Html {
  const [{ kind }] = systems
  const charts = (Object.keys(measureWords) as (keyof typeof measureWords)[]).map((measure) => {
    const chart = drawLayers(results, systems, measure)
    return chart && html`<figure><h4>${measureWords[measure]}</h4>${chart}</figure>`
  })
  return html`<h3 class="part">By layer: ${kind} questions</h3>
    <div class="legend">${systems.map(({ system }) => systemName(results, system))}<span>Bands: 95 % interval by image.</span></div>
    <div class="grid">${charts}</div>`
}

const colours = ['var(--before)', 'var(--series-1)', 'var(--series-2)', 'var(--series-3)', 'var(--series-4)']

/** Null where no layer has a finite value. */
function drawLayers(
  results: EvaluationResults,
  systems: readonly GroundingResults[],
  measure: keyof typeof measureWords,
): Html | null {
  const pointsOf = (means: readonly LayerMean[]) =>
    means.map((mean, layer) => ({ layer: layer + 1, ...mean })).filter(({ value }) => value !== null)
  const marks = systems.flatMap(({ system, layers }) => {
    const stroke = colours[colourOf(results, system)]
    const points = pointsOf(layers[measure])
    const band = points.filter(({ low, high }) => low !== null && high !== null)
    const control = measure === 'ar' ? pointsOf(layers.shiftedAr) : []
    return [
      Plot.areaY(band, { x: 'layer', y1: 'low', y2: 'high', fill: stroke, fillOpacity: 0.16 }),
      Plot.lineY(points, { x: 'layer', y: 'value', stroke, strokeWidth: 2 }),
      Plot.dot(points.length === 1 ? points : [], { x: 'layer', y: 'value', fill: stroke }),
      Plot.lineY(control, { x: 'layer', y: 'value', stroke, strokeWidth: 1.5, strokeDasharray: '4 3' }),
    ]
  })
  if (systems.every(({ layers }) => pointsOf(layers[measure]).length === 0)) return null
  const level = measure === 'ar' ? [Plot.ruleY([1], { strokeOpacity: 0.4 })] : []
  return drawChart({
    marginLeft: 48,
    marginBottom: 38,
    x: { label: 'layer', tickFormat: (layer: number) => (Number.isInteger(layer) ? String(layer) : '') },
    y: { label: null, grid: true, ticks: 5, tickFormat, nice: true },
    marks: [...level, ...marks],
  })
}
