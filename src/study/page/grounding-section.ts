/** Where the arms look, layer by layer, on each kind of question with a region. */
import { type LayerMean, readEvaluation } from '../../evaluate/index.js'
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { html } from '../../page/html.js'
import { legendOf } from './arm-look.js'
import { armsOfTable, finishedFolders } from './finished.js'
import { drawLines, type Point } from './line-chart.js'
import type { SectionInput } from './section.js'

const measures = {
  ar: 'Attention ratio (AR)',
  kl: 'Kullback-Leibler divergence (KL)',
  js: 'Jensen-Shannon divergence (JS)',
  mass: 'Share of attention on the image',
  shiftedAr: 'Attention ratio of the same region moved elsewhere (control)',
} as const
type Measure = keyof typeof measures
const names = Object.keys(measures) as Measure[]

/** One arm with one seed on one kind of question; intervals are of its images. */
interface Layers {
  arm: string
  seed: number
  kind: string
  layers: Record<Measure, readonly LayerMean[]>
}

export async function groundingSection(input: SectionInput): Promise<Section | null> {
  const { table, results } = input
  const read = await readLayers(input)
  if (read.length === 0) return null
  const shown = (kind: string, measure: Measure) => {
    const own = read.filter((each) => each.kind === kind)
    const lines = [...new Set(own.map(({ arm }) => arm))].map((arm) => {
      const seeds = own.filter((each) => each.arm === arm).map(({ layers }) => layers[measure].map(pointOf))
      return { arm, seeds, mean: seeds.length === results.seeds.length ? meanOf(seeds) : null }
    })
    const title = measures[measure]
    const chart = drawLines(table, lines, {
      label: `${title} by layer, ${kind} questions`,
      ...{ xLabel: 'layer', isWhole: true, levels: /ar$/i.test(measure) ? [1] : [] },
    })
    return chart && html`<figure><h4>${title}</h4>${chart}</figure>`
  }
  const numbers = tableOf({
    name: 'grounding-layers',
    rows: read.flatMap(({ arm, seed, kind, layers }) =>
      names.flatMap((measure) =>
        layers[measure].map((each, at) => ({ arm, seed, kind, measure, layer: at + 1, ...each })),
      ),
    ),
    columns: [],
    data: ({ arm, seed, kind, measure, layer, value, low, high }) => ({
      ...{ arm, seed, kind, measure, layer, value, low, high },
    }),
  })
  const title = 'Grounding by layer'
  return {
    title,
    tables: present(numbers),
    html: html`<h2>${title}</h2>
      <p class="note">AR: attention inside the region over its attention under a general prompt; 1 means no difference. Bands are the seeds’ mean 95 % interval over
      images; how much seeds differ is what the thin lines show. To look at: what is concluded from was fixed beforehand and is no layer.</p>
      ${legendOf(table, [...new Set(read.map(({ arm }) => arm))])}
      ${[...new Set(read.map(({ kind }) => kind))].map(
        (kind) =>
          html`<h3 class="part">${kind} questions</h3><div class="grid">${names.map((measure) => shown(kind, measure))}</div>`,
      )}`,
  }
}

async function readLayers({ root, results, table }: SectionInput): Promise<Layers[]> {
  const read: Layers[] = []
  for (const { name: arm, seeds } of armsOfTable(results, table)) {
    for (const each of seeds) {
      for (const folder of finishedFolders(root, each, 'evaluate')) {
        const { grounding, systems } = await readEvaluation(folder)
        const own = grounding?.results.filter(({ system }) => system === systems[0].name) ?? []
        for (const { kind, layers } of own) read.push({ arm, seed: each.seed, kind, layers })
        if (own.length > 0) break
      }
    }
  }
  return read
}

/** What there is no number of leaves a gap. */
const pointOf = ({ value, low, high }: LayerMean, at: number): Point => ({
  ...{ x: at + 1, y: value ?? Number.NaN, low: low ?? undefined, high: high ?? undefined },
})

/** Of values and of bounds, layer by layer. */
function meanOf(seeds: readonly (readonly Point[])[]): Point[] {
  const mean = (at: number, of: (point: Point) => number | undefined) =>
    seeds.reduce((sum, points) => sum + (of(points[at]) ?? Number.NaN), 0) / seeds.length
  return seeds[0].map(({ x }, at) => ({
    x,
    y: mean(at, ({ y }) => y),
    low: mean(at, ({ low }) => low),
    high: mean(at, ({ high }) => high),
  }))
}
