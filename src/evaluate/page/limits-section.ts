/** What the numbers should be read beside: what so many questions can show, and what is had without looking. */
import { type Html, html } from '../../page/html.js'
import { intervalOfShares, percent } from '../../page/numbers.js'
import type { MeanByCluster, Proportion } from '../../statistics/index.js'
import type { PublishedRule, PublishedTotal, RuleCount } from '../questions/published-totals.js'
import type { SystemResults } from '../results.js'
import type { SampledResults } from '../several.js'
import type { EvaluationFolder } from './folder.js'
import { systemName } from './systems.js'
import { meanCells, present, type Section, tableOf } from './table.js'
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
      <div><h3>Without looking</h3><p class="note">Every accuracy should be read beside these.</p>${prior?.html}</div></div>`,
  }
}

const ruleWords: Record<PublishedRule, string> = {
  llavaMed2023: 'LLaVA-Med, first release of 2023',
  llavaMed: 'LLaVA-Med since its pull request 35',
  medEvalKit: 'MedEvalKit, without its judge',
  lmmsEval: 'lmms-eval',
  companion: 'FiRe-MPO, where it asks no judge',
}

/** A published rule on the answers of a system. */
type RuleRow = PublishedTotal & { system: string }

/** What published rules count, so that a number can be held against one that used them. */
export function rulesSection({ results }: EvaluationFolder): Section | null {
  const rows = results.systems.flatMap(({ name: system, published }) =>
    published.rules.map((total): RuleRow => ({ ...total, system })),
  )
  if (rows.every(({ closed, open }) => closed.count + open.count === 0)) return null
  const shown = ({ successes, count }: RuleCount) =>
    count === 0 ? null : html`${percent(successes / count)} <small>${successes} / ${count}</small>`
  const rules = tableOf<RuleRow>({
    name: 'published-rules',
    rows: [...rows].sort((a, b) => order.indexOf(a.rule) - order.indexOf(b.rule)),
    above: ({ rule }) => ruleWords[rule],
    columns: [
      { label: 'system', show: ({ system }) => systemName(results, system) },
      { label: 'closed, %', show: ({ closed }) => shown(closed) },
      { label: 'open, %', show: ({ open }) => shown(open) },
    ],
    data: ({ system, rule, closed, open }) => ({
      ...{ system, rule, closedSuccesses: closed.successes, closedCount: closed.count },
      ...{ openSuccesses: open.successes, openCount: open.count },
    }),
  })
  const scores = tableOf({
    name: 'published-word-scores',
    rows: results.systems.flatMap(({ name, published: { open } }) => (open ? [{ name, ...open }] : [])),
    columns: [
      { label: 'system', show: ({ name }) => systemName(results, name) },
      { label: 'recall, “open”', show: ({ recall }) => decimal(recall) },
      { label: 'precision', show: ({ precision }) => decimal(precision) },
      { label: 'F1', show: ({ f1 }) => decimal(f1) },
      { label: 'exact match', show: ({ exactMatch }) => decimal(exactMatch) },
      { label: 'n', show: ({ count }) => count },
    ],
    data: ({ name, ...means }) => ({ system: name, ...means }),
  })
  const title = 'What published rules count'
  return {
    title,
    tables: present(rules, scores),
    html: html`<h2>${title}</h2>
      <p class="note">The same answers as published scripts count them, traps included; to be held against numbers that used them, not to conclude from.
      What a script leaves out, or leaves to a judge, is not in its n; nor are missing answers.</p>
      ${rules?.html}${scores && html`<h3 class="part">LLaVA-Med’s word scores of open answers</h3>${scores.html}`}`,
  }
}

const order = Object.keys(ruleWords)

/** A system that answered each question several times. */
interface SampledRow {
  name: string
  sampled: SampledResults
}

const shareOf = (mean: MeanByCluster | undefined): Html | string =>
  mean?.value == null
    ? '–'
    : html`${percent(mean.value)} <small>${mean.interval ? intervalOfShares(mean.interval) : '–'}</small>`

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
      ...meanCells('greedy', row.sampled.greedy),
      ...Object.assign({}, ...ks.map((k) => meanCells(`passAt${k}`, passAt(row, k)))),
      ...meanCells('headroom', row.sampled.headroom),
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
      right, by the unbiased estimator, with intervals by image (bootstrap, seed ${results.seed}; none below 20 images). It rises with noise, while the share of questions
      whose answers all have one verdict falls.</p>${table.html}`,
  }
}
