/** The systems without the image: what is right there is not seen. */
import { html } from '../../page/html.js'
import { intervalOfShares, percent, points, pValue } from '../../page/numbers.js'
import type { BlindComparison, BlindResults } from '../blind.js'
import type { PriorKind } from '../records.js'
import type { EvaluationFolder } from './folder.js'
import { systemName } from './systems.js'
import { present, type Section, tableOf } from './table.js'
import { servedWords, signedInterval } from './words.js'

const priorWords: Record<PriorKind, string> = {
  question: 'The question alone, without an image',
  swapped: 'With another image of the data set',
}

export function blindSection({ results }: EvaluationFolder): Section | null {
  const { blind, judging } = results
  if (!blind) return null
  const systems = tableOf<BlindResults>({
    name: 'without-image',
    rows: blind.systems,
    above: ({ prior }) => priorWords[prior],
    columns: [
      { label: 'system', show: ({ system }) => systemName(results, system) },
      {
        label: 'correct, %',
        show: ({ groups: [all] }) =>
          html`${percent(all.accuracy.value)} <small>${intervalOfShares(all.accuracy)}</small>`,
      },
      { label: 'k / n', show: ({ groups: [all] }) => `${all.accuracy.successes} / ${all.accuracy.count}` },
      {
        label: 'what the image adds, points',
        show: ({ image }) =>
          html`${points(image.difference.value)} <small>${intervalOf(image.clusters.bootstrap)}</small>`,
      },
      { label: 'worst cases, %', show: ({ groups: [all] }) => all.bounds && intervalOfShares(all.bounds) },
    ],
    data: ({ system, prior, groups: [all], image }) => ({
      system,
      prior,
      successes: all.accuracy.successes,
      count: all.accuracy.count,
      accuracy: all.accuracy.value,
      low: all.accuracy.low,
      high: all.accuracy.high,
      ...all.outcomes,
      imageAdds: image.difference.value,
      imageAddsLow: image.clusters.bootstrap?.low ?? null,
      imageAddsHigh: image.clusters.bootstrap?.high ?? null,
    }),
  })
  const compared = tableOf<BlindComparison>({
    name: 'without-image-comparisons',
    rows: blind.comparisons,
    above: ({ system, baseline }) => `${system} − ${baseline}`,
    columns: [
      { label: 'asked', kind: 'text', show: ({ prior }) => priorWords[prior] },
      { label: 'n', show: ({ all }) => all.count },
      {
        label: 'difference, points',
        show: ({ all }) => html`${points(all.difference.value)} <small>${intervalOf(all.clusters.bootstrap)}</small>`,
      },
      {
        label: 'McNemar p',
        show: ({ all }) => html`${pValue(all.mcnemar.exact)} <small>Holm ${pValue(all.adjusted.holm ?? 1)}</small>`,
      },
      { label: 'conclusion', show: ({ conclusion }) => conclusion.replace('_', ' ') },
      {
        label: 'of the difference, needs the image',
        show: ({ beyond }) => html`${points(beyond.value)} <small>${intervalOf(beyond.interval)}</small>`,
      },
    ],
    data: ({ system, baseline, prior, all, conclusion, beyond }) => ({
      system,
      baseline,
      prior,
      count: all.count,
      difference: all.difference.value,
      low: all.clusters.bootstrap?.low ?? null,
      high: all.clusters.bootstrap?.high ?? null,
      mcnemarExact: all.mcnemar.exact,
      holm: all.adjusted.holm,
      conclusion,
      beyond: beyond.value,
      beyondLow: beyond.interval?.low ?? null,
      beyondHigh: beyond.interval?.high ?? null,
    }),
  })
  const title = 'Without the image'
  const judge = judging.judge ? ` Judge: ${servedWords(judging.judge)}.` : ''
  return {
    title,
    tables: present(systems, compared),
    html: html`<h2>${title}</h2>
      <p class="note">The same systems, asked without the image that belongs to the question, and judged in the same way.${judge} A gain that is there without
      the image is no visual gain. Intervals: cluster bootstrap by image.</p>
      ${systems?.html}${compared && html`<h3 class="part">Systems against each other without the image: exploratory</h3>${compared.html}`}`,
  }
}

const intervalOf = (interval: { low: number; high: number } | null): string =>
  interval ? signedInterval(interval) : 'no interval'
