/** What the numbers should be read beside: what so many questions can show, and what is had without looking. */
import { type Html, html } from '../../page/html.js'
import { intervalOfShares, percent } from '../../page/numbers.js'
import type { Interval, Proportion } from '../../statistics/index.js'
import type { SystemResults } from '../results.js'
import type { SampledResults } from '../several.js'
import type { EvaluationFolder } from './folder.js'
import { systemName } from './systems.js'
import { present, type Section, tableOf } from './table.js'
import { decimal } from './words.js'

export function limitsSection({ results }: EvaluationFolder): Section | null {
  const { questions, detectable, priors } = results
  if (questions === 0) return null
  const power = tableOf({
    name: 'detectable',
    isSmall: true,
    rows: detectable,
    columns: [
      { label: 'answers that change', show: ({ discordant }) => `${percent(discordant, 0)} %` },
      {
        label: 'smallest difference, points',
        show: ({ difference }) => (difference === null ? 'none' : percent(difference)),
      },
    ],
    data: ({ discordant, difference }) => ({ questions, discordant, difference }),
  })
  const blind: { name: string; accuracy: Proportion }[] = [
    ...priors.majority.map(({ group, answer, accuracy }) => ({
      name: `always “${answer}”, the most frequent, to ${group} questions (answer_type)`,
      accuracy,
    })),
    ...(priors.alwaysYes
      ? [{ name: 'always “yes” to questions of yes or no (yes_no_exact)', accuracy: priors.alwaysYes }]
      : []),
  ]
  const prior = tableOf({
    name: 'priors',
    isSmall: true,
    rows: blind,
    columns: [
      { label: 'answer without looking', kind: 'text', show: ({ name }) => html`<bdi>${name}</bdi>` },
      {
        label: 'correct, %',
        show: ({ accuracy }) => html`${percent(accuracy.value)} <small>${intervalOfShares(accuracy)}</small>`,
      },
      { label: 'k / n', show: ({ accuracy }) => `${accuracy.successes} / ${accuracy.count}` },
    ],
    data: ({ name, accuracy: { successes, count, value, low, high } }) => ({
      name,
      successes,
      count,
      accuracy: value,
      low,
      high,
    }),
  })
  const title = 'What these questions can show'
  return {
    title,
    tables: present(power, prior),
    html: html`<h2>${title}</h2>
      <div class="grid"><div><h3>Smallest difference that is found</h3>
      <p class="note">n = ${questions}, exact McNemar at 5 %, 80 % power, before clustering by image.</p>${power?.html}</div>
      <div><h3>Without the image</h3><p class="note">Every accuracy should be read beside these.</p>${prior?.html}</div></div>`,
  }
}

/** A system that answered each question several times. */
interface SampledRow {
  name: string
  sampled: SampledResults
}

const shareOf = (mean: ({ value: number } & Interval) | undefined): Html | string =>
  mean ? html`${percent(mean.value)} <small>${intervalOfShares(mean)}</small>` : '–'

export function sampledSection({ results }: EvaluationFolder): Section | null {
  const rows = results.systems.flatMap(({ name, sampled }: SystemResults): SampledRow[] =>
    sampled ? [{ name, sampled }] : [],
  )
  const ks = [...new Set(rows.flatMap(({ sampled }) => sampled.passAtK.map(({ k }) => k)))].sort((a, b) => a - b)
  const passAt = ({ sampled }: SampledRow, k: number) => sampled.passAtK.find((each) => each.k === k)
  const table = tableOf<SampledRow>({
    name: 'sampled',
    rows,
    columns: [
      { label: 'system', show: ({ name }) => systemName(results, name) },
      { label: 'questions × answers', show: ({ sampled }) => `${sampled.questions} × ${sampled.answers}` },
      { label: 'greedy, %', show: ({ sampled }) => sampled.greedy && shareOf(sampled.greedy) },
      ...ks.map((k) => ({ label: `pass@${k}, %`, show: (row: SampledRow) => shareOf(passAt(row, k)) })),
      { label: 'one verdict, %', show: ({ sampled }) => percent(sampled.consistent) },
      { label: 'unique share', show: ({ sampled }) => decimal(sampled.diversity.uniqueShare) },
      { label: 'entropy, bits', show: ({ sampled }) => decimal(sampled.diversity.entropyBits) },
      { label: 'distinct-1', show: ({ sampled }) => decimal(sampled.diversity.distinct1) },
      { label: 'distinct-2', show: ({ sampled }) => decimal(sampled.diversity.distinct2) },
      { label: 'edit distance', show: ({ sampled }) => decimal(sampled.diversity.meanEditDistance) },
    ],
    data: (row) => ({
      system: row.name,
      questions: row.sampled.questions,
      answers: row.sampled.answers,
      greedy: row.sampled.greedy?.value ?? null,
      greedyLow: row.sampled.greedy?.low ?? null,
      greedyHigh: row.sampled.greedy?.high ?? null,
      ...Object.fromEntries(
        ks.flatMap((k) => {
          const { value, low, high } = passAt(row, k) ?? { value: null, low: null, high: null }
          return [
            [`passAt${k}`, value],
            [`passAt${k}Low`, low],
            [`passAt${k}High`, high],
          ]
        }),
      ),
      consistent: row.sampled.consistent,
      ...row.sampled.diversity,
    }),
  })
  if (!table) return null
  const title = 'Several answers to a question'
  return {
    title,
    tables: [table],
    html: html`<h2>${title}</h2>
      <p class="note">greedy: the likeliest answer, as everywhere else on this page. pass@k: the chance that one of k drawn answers is
      right, by the unbiased estimator, with intervals that are robust by image. It rises with noise, while the share of questions
      whose answers all have one verdict falls.</p>${table.html}`,
  }
}
