/** Arms against the baseline of their table. */
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { html } from '../../page/html.js'
import { intervalOfPoints, percent, points, pValue } from '../../page/numbers.js'
import type { ComparedArms } from '../compare.js'
import type { SectionInput } from './section.js'
import { comparedWords } from './words.js'

export function comparisonsSection({ results, table }: SectionInput): Section | null {
  const { baseline, comparisons, primary } = table
  const rows = [
    ...(primary ? [{ kind: 'primary', compared: primary }] : []),
    ...byMetric(comparisons).map((compared) => ({
      kind: compared.metric === (primary?.metric ?? 'overall') ? 'table' : 'exploratory',
      compared,
    })),
  ]
  const shown = tableOf<(typeof rows)[number]>({
    name: 'comparisons',
    rows,
    above: ({ kind, compared: { metric } }) =>
      kind === 'primary'
        ? 'Primary, fixed beforehand'
        : `Against ${baseline}, ${comparedWords(metric)}${kind === 'exploratory' ? ', exploratory' : ''}`,
    columns: [
      { label: 'arms', show: ({ compared: { arm, baseline: other } }) => `${arm} − ${other}` },
      {
        label: 'difference, points',
        show: ({ compared: { difference } }) =>
          difference ? html`${points(difference.value)} <small>${intervalOfPoints(difference)}</small>` : '–',
      },
      {
        label: 'each seed',
        show: ({ compared: { seeds } }) => seeds.map(({ difference }) => points(difference)).join(', ') || '–',
      },
      { label: 'p', show: ({ compared: { p } }) => numberOf(p) },
      { label: 'Holm p', show: ({ compared: { holm } }) => numberOf(holm) },
      { label: 'conclusion', show: ({ compared: { conclusion } }) => conclusion.replaceAll('_', ' ') },
    ],
    data: ({ kind, compared }) => ({ kind, ...cellsOf(compared) }),
  })
  const title = 'Comparisons'
  const test =
    results.seeds.length === 1
      ? 'that of the sign-flip test over images'
      : 'the larger one of a t test over seeds and one whose variance has seeds and images'
  return {
    title,
    tables: present(shown),
    html: html`<h2>${title}</h2>
      <p class="note">Differences are taken per seed on the same questions, then averaged. The interval is of the bootstrap over seeds and images. p is ${test}; Holm’s correction is over the arms. A gain or a
      loss needs p below 0.05 after the correction and an interval without 0; equivalent needs an interval within ±${percent(results.margin)} points and p below 0.05 against both ends of it. The
      primary comparison is one test and is not corrected. All else is not resolved.</p>
      ${shown?.html}`,
  }
}

const byMetric = (comparisons: readonly ComparedArms[]): ComparedArms[] =>
  [...new Set(comparisons.map(({ metric }) => metric))].flatMap((metric) =>
    comparisons.filter((each) => each.metric === metric),
  )

const numberOf = (p: number | null): string => (p === null ? '–' : pValue(p))

const cellsOf = ({ arm, baseline, metric, seeds, difference, p, marginP, holm, conclusion }: ComparedArms) => ({
  ...{ arm, baseline, metric, seeds: seeds.length },
  ...{ difference: difference?.value ?? null, low: difference?.low ?? null, high: difference?.high ?? null },
  ...{ p, holm, marginP, conclusion },
})
