/** The verdict, accuracy by group, and systems held against each other. */
import { type Html, html } from '../../page/html.js'
import { intervalOfShares, percent, points, pValue } from '../../page/numbers.js'
import { counted } from '../../text/plural.js'
import type { ComparedGroup, SystemComparison } from '../compare.js'
import type { EvaluationResults } from '../finished.js'
import type { GroupResult } from '../groups.js'
import { overallOf } from '../results.js'
import type { EvaluationFolder } from './folder.js'
import { colourOf, systemName } from './systems.js'
import { present, type Section, tableOf } from './table.js'
import { conclusionDetail, conclusionWords, decimal, groupWords, servedWords, signedInterval } from './words.js'

/** What must be known before any number, then each comparison in words. */
export function verdictSection({ results }: EvaluationFolder): Html {
  const { margin, reports, questions, notes } = results
  const comparisons = questions > 0 ? results.comparisons : []
  const verdict = (each: SystemComparison) =>
    html`<p class="verdict ${each.conclusion}">${each.role === 'exploratory' && html`<span class="role">exploratory</span> `}${conclusionWords(each, margin)}</p><p>${conclusionDetail(each, results)}</p>`
  // The comparison that was fixed beforehand is read first.
  const ordered = [...comparisons].sort((a, b) => Number(b.role === 'primary') - Number(a.role === 'primary'))
  return html`<section>
    <ul class="cautions">${cautions(results).map((each) => html`<li>${each}</li>`)}${notes.map((note) => html`<li class="warning">${note}</li>`)}</ul>
    ${ordered.length > 0 ? ordered.map(verdict) : alone(results)}
    ${reports && questions > 0 && html`<p class="small">Reports stand in a section of their own and do not enter this verdict.</p>`}
  </section>`
}

function alone(results: EvaluationResults): Html {
  const lines = results.systems.map((system) => {
    const accuracy = overallOf(system)
    if (!accuracy || accuracy.count === 0) return html`${system.name}: reports only`
    return html`${system.name}: ${accuracy.successes} of ${accuracy.count} questions right, ${percent(accuracy.value)} % ${intervalOfShares(accuracy)}`
  })
  return html`${lines.map((line) => html`<p class="verdict">${line}</p>`)}`
}

function cautions({ judging, leakage, systems, reports, questions }: EvaluationResults): string[] {
  const judges = [judging.judge, judging.second].flatMap((judge) =>
    judge
      ? [`${servedWords(judge)} (${judge.unreadable} unreadable and ${judge.failed} failed of ${judge.judged} replies)`]
      : [],
  )
  const lost = systems.flatMap(({ name, groups }) => {
    const outcomes = groups[0]?.outcomes
    return outcomes
      ? [
          `${name} ${outcomes.failed} failed or missing, ${outcomes.unreadable} unreadable, ${outcomes.undecided} undecided`,
        ]
      : []
  })
  const ofQuestions = [
    `Judged ${judging.description}${judges.length > 0 ? `. Judge: ${judges.join('; ')}` : ''}.`,
    leakage
      ? `Leakage: ${leakage.seen} of ${counted(questions, 'question')} are about images that were trained on.`
      : 'Leakage: not known, since no training pairs were named.',
    `Answers without a verdict, of ${questions} each: ${lost.join('; ')}. They count as wrong.`,
  ]
  const green = reports?.green
  const ofReports = green
    ? reports.systems.flatMap(({ system, green: read }) =>
        read
          ? [
              `Reports of ${system}: ${sum(read.unreadable)} unreadable and ${read.failed} failed of ${read.reports} GREEN replies (${servedWords(green)}).`,
            ]
          : [],
      )
    : []
  return [...(questions > 0 ? ofQuestions : []), ...ofReports]
}

const sum = (counts: Readonly<Record<string, number>>): number =>
  Object.values(counts).reduce((total, count) => total + count, 0)

/** One row a system and group. */
interface AccuracyRow {
  system: string
  group: GroupResult
}

export function accuracySection({ results }: EvaluationFolder): Section | null {
  if (results.questions === 0) return null
  const groups = results.systems.at(0)?.groups ?? []
  const rows = groups.flatMap((_, i) =>
    results.systems.map(({ name, groups: own }): AccuracyRow => ({ system: name, group: own[i] })),
  )
  const table = tableOf<AccuracyRow>({
    name: 'accuracy',
    rows,
    above: ({ group }) => `${groupWords(group)}, n = ${group.accuracy.count}`,
    columns: [
      { label: 'system', show: ({ system }) => systemName(results, system) },
      { label: 'accuracy', kind: 'chart', heading: drawAxis(), show: (row) => drawTrack(results, row) },
      {
        label: 'correct, %',
        show: ({ group }) => html`${percent(group.accuracy.value)} <small>${intervalOfShares(group.accuracy)}</small>`,
      },
      { label: 'k / n', show: ({ group }) => `${group.accuracy.successes} / ${group.accuracy.count}` },
      { label: 'worst cases, %', show: ({ group: { bounds } }) => bounds && intervalOfShares(bounds) },
      { label: 'undecided', show: ({ group }) => group.outcomes.undecided },
      { label: 'unreadable', show: ({ group }) => group.outcomes.unreadable },
      { label: 'failed', show: ({ group }) => group.outcomes.failed },
      { label: 'weak', show: ({ group }) => group.weak },
      { label: 'mean words', show: ({ group }) => decimal(group.words, 1) },
    ],
    data: ({ system, group }) => ({
      kind: group.kind,
      group: group.name,
      system,
      successes: group.accuracy.successes,
      count: group.accuracy.count,
      accuracy: group.accuracy.value,
      low: group.accuracy.low,
      high: group.accuracy.high,
      ...group.outcomes,
      worstLow: group.bounds?.low ?? null,
      worstHigh: group.bounds?.high ?? null,
      weak: group.weak,
      meanWords: group.words,
    }),
  })
  const title = 'Accuracy by group'
  return {
    title,
    tables: present(table),
    html: html`<h2>${title}</h2>
      <p class="note">Dots: correct answers of all that were asked. Bars: 95 % Wilson interval, which takes questions as independent.
      Undecided, unreadable and failed answers stay in n; where they are more than 2 %, worst cases: the accuracy if all of them were wrong, and if all were
      right. Weak: rules decided, and are not sure. All three published meanings of “closed” are counted.</p>
      ${table?.html}`,
  }
}

const levels = [0, 25, 50, 75, 100]

/** Places are shares of the width, so that neither text nor dots are scaled with it. */
function drawAxis(): Html {
  return html`<svg class="axis" aria-hidden="true">${levels.map((level) => html`<text x="${level}%" y="12" text-anchor="middle">${level}${level === 100 && ' %'}</text>`)}</svg>`
}

function drawTrack(results: EvaluationResults, { system, group: { accuracy } }: AccuracyRow): Html {
  const place = (value: number) => `${(100 * value).toFixed(2)}%`
  const isKnown = accuracy.count > 0
  const { value, low, high } = accuracy
  const mark = html`<line class="reach" x1="${place(low)}" x2="${place(high)}" y1="12" y2="12"/><circle cx="${place(value)}" cy="12" r="5"/>`
  return html`<svg class="track c${colourOf(results, system)}" role="img" aria-label="${percent(value)} %">
    ${levels.map((level) => html`<line class="level" x1="${level}%" x2="${level}%" y1="-6" y2="30"/>`)}${isKnown && mark}
  </svg>`
}

/** One row a comparison and group. */
interface ComparedRow {
  comparison: SystemComparison
  group: ComparedGroup
}

export function comparisonsSection({ results }: EvaluationFolder): Section | null {
  if (results.questions === 0) return null
  const rows = results.comparisons.flatMap((comparison) =>
    comparison.groups.map((group): ComparedRow => ({ comparison, group })),
  )
  const compared = tableOf<ComparedRow>({
    name: 'comparisons',
    rows,
    above: ({ comparison: { system, baseline, role } }) =>
      `${system} − ${baseline}${role === null ? '' : role === 'primary' ? ': the primary comparison' : ': exploratory'}`,
    columns: [
      {
        label: 'group',
        show: ({ group, comparison: { role } }) => html`${group.kind === 'overall' ? 'All questions' : group.name}
          <small>${group.kind === 'overall' && role !== 'exploratory' ? 'decides' : `exploratory · ${ruleOf(group)}`}</small>`,
      },
      { label: 'n', show: ({ group }) => group.count },
      {
        label: 'difference, points',
        show: ({ group }) =>
          html`${points(group.difference.value)} <small>Newcombe ${signedInterval(group.difference)}</small>`,
      },
      {
        label: 'cluster interval',
        show: ({ group: { clusters } }) => html`${clusters.bootstrap ? signedInterval(clusters.bootstrap) : '–'}
          <small>${counted(clusters.count, 'image')}, design effect ${decimal(clusters.designEffect, 2)}</small>`,
      },
      {
        label: 'worst cases',
        show: ({ group: { bounds } }) => bounds && signedInterval(bounds),
      },
      { label: 'right (+), wrong (−)', show: ({ group }) => `+${group.counts.gained} −${group.counts.lost}` },
      {
        label: 'McNemar p',
        show: ({ group }) => html`${pValue(group.mcnemar.exact)} <small>mid-p ${pValue(group.mcnemar.midP)}</small>`,
      },
      {
        label: 'sign-flip p',
        show: ({ group }) => (group.clusters.signFlip === null ? '–' : pValue(group.clusters.signFlip)),
      },
      { label: 'adjusted p', show: ({ group }) => adjusted(group) },
    ],
    data: ({ comparison: { system, baseline, role, conclusion }, group }) => ({
      system,
      baseline,
      role: group.kind === 'overall' ? (role ?? '') : 'exploratory',
      kind: group.kind,
      group: group.name,
      count: group.count,
      ...group.counts,
      difference: group.difference.value,
      worstLow: group.bounds?.low ?? null,
      worstHigh: group.bounds?.high ?? null,
      newcombeLow: group.difference.low,
      newcombeHigh: group.difference.high,
      clusters: group.clusters.count,
      designEffect: group.clusters.designEffect,
      bootstrapLow: group.clusters.bootstrap?.low ?? null,
      bootstrapHigh: group.clusters.bootstrap?.high ?? null,
      robustLow: group.clusters.robust?.low ?? null,
      robustHigh: group.clusters.robust?.high ?? null,
      mcnemarExact: group.mcnemar.exact,
      mcnemarMidP: group.mcnemar.midP,
      signFlip: group.clusters.signFlip,
      holm: group.adjusted.holm,
      benjaminiHochberg: group.adjusted.benjaminiHochberg,
      conclusion: group.kind === 'overall' ? conclusion : 'exploratory',
    }),
  })
  if (!compared) return null
  const title = 'Comparisons on the same questions'
  const draws = rows[0].group.clusters.bootstrap?.draws
  return {
    title,
    tables: [compared],
    html: html`<h2>${title}</h2>
      <p class="note">Only the row of all questions decides; the groups are exploratory. McNemar’s test assumes independence of the questions, and
      is exact for each row’s n. The cluster interval (bootstrap${draws !== undefined && ` of ${draws} draws`}, seed ${results.seed}) and the sign-flip test allow for several questions about one
      image; below 20 images there is none. ${holmWords(results)}, Benjamini and Hochberg (BH) over the groups. Worst cases: the answers without a verdict wrong
      for one system and right for the other, where they are more than 2 %.</p>
      ${compared.html}`,
  }
}

const holmWords = ({ primary, comparisons }: EvaluationResults): string =>
  primary === null
    ? comparisons.length === 1
      ? 'The only comparison is the primary one'
      : 'No comparison was named as primary: Holm over the systems'
    : `The primary comparison, ${primary}, was fixed beforehand and stands alone; Holm over the other systems`

const ruleOf = ({ kind }: ComparedGroup): string =>
  ({ answerType: 'answer_type', yesNoExact: 'yes_no_exact', paperSubstring: 'paper_substring' })[kind as string] ?? kind

function adjusted({ adjusted: { holm, benjaminiHochberg } }: ComparedGroup): string {
  if (holm !== null) return `Holm ${pValue(holm)}`
  return benjaminiHochberg === null ? '–' : `BH ${pValue(benjaminiHochberg)}`
}
