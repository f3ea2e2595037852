/** Reports: GREEN as we read it and as published, every reply that could not be read, and word overlap last. */
import { html } from '../../page/html.js'
import { percent, pValue, said } from '../../page/numbers.js'
import type { MeanByCluster } from '../../statistics/index.js'
import type { ComparedScore, GreenResults, ReportResults } from '../reports/summary.js'
import type { EvaluationFolder } from './folder.js'
import { systemName } from './systems.js'
import { present, type Section, type Table, tableOf } from './table.js'
import { cut, decimal, decimalInterval, servedWords, signed } from './words.js'

const greenNames: Record<string, string> = { green: 'GREEN, strict', greenParity: 'GREEN, parity' }

/** So many systems stand side by side on a telephone. */
const few = 3

/** GREEN's categories of errors. */
const categories = [
  'a: a finding that is not there',
  'b: a finding is missing',
  'c: wrong place',
  'd: wrong severity',
  'e: a comparison that the reference lacks',
  'f: a comparison is missing',
]

export function reportsSection(folder: EvaluationFolder): Section | null {
  const { reports } = folder.results
  if (!reports) return null
  const green = greenTable(folder)
  const errors = errorsTable(folder)
  const compared = comparedTable(folder)
  const unreadable = unreadableTable(folder)
  const scores = scoresTable(folder)
  const title = 'Reports'
  const by = reports.green
  return {
    title,
    tables: present(green, errors, compared, unreadable, scores),
    html: html`<h2>${title}</h2>
      ${
        by &&
        html`<p class="note">Errors counted by <bdi>${servedWords(by)}</bdi>, prompt <code>${by.promptSha256.slice(0, 12)}</code>. Strict: mean over the replies that
      could be read, with a cluster interval; bounds: if all others had 0 or 1. Parity: as the published code counts, where a reply that cannot be read is 0.</p>`
      }
      ${green?.html}
      ${
        errors &&
        html`<h3 class="part">Reports without a clinically significant error, and findings</h3>
        <p class="note">Readable: of the replies that could be read. Parity: as published, where unreadable replies count as without error.</p>${errors.html}`
      }
      ${
        compared &&
        html`<h3 class="part">Systems on the same reports</h3>
        <p class="note">Cluster interval by image; p of sign flips of images, for the n beside it. Exploratory: no conclusion is drawn from these rows.</p>${compared.html}`
      }
      ${unreadable && html`<h3 class="part">Replies that could not be read or never came</h3>${unreadable.html}`}
      ${
        scores &&
        html`<h3 class="part">Word overlap and scores of other programs</h3>
        <p class="note">Word overlap says little about findings. CIDEr-D is a number of these reports together.</p><div class="minor">${scores.html}</div>`
      }`,
  }
}

type GreenRow = ReportResults & { green: GreenResults }

const greenRows = ({ results }: EvaluationFolder): GreenRow[] =>
  (results.reports?.systems ?? []).flatMap((row) => (row.green ? [{ ...row, green: row.green }] : []))

const meanWithInterval = ({ value, interval }: MeanByCluster) =>
  html`${decimal(value)}${interval && html` <small>${decimalInterval(interval)}</small>`}`

function greenTable(folder: EvaluationFolder): Table | null {
  const reasons = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([reason, count]) => `${reason.replaceAll('_', ' ')} ${count}`)
      .join(', ')
  const total = (counts: Readonly<Record<string, number>>) => Object.values(counts).reduce((a, b) => a + b, 0)
  return tableOf<GreenRow>({
    name: 'green',
    rows: greenRows(folder),
    columns: [
      { label: 'system', show: ({ system }) => systemName(folder.results, system) },
      { label: 'GREEN, strict', show: ({ green }) => meanWithInterval(green.strict) },
      { label: 'n', show: ({ green }) => green.strict.count },
      { label: 'bounds', show: ({ green }) => decimalInterval(green.bounds) },
      { label: 'parity', show: ({ green }) => meanWithInterval(green.parity) },
      { label: 'n of parity', show: ({ green }) => green.parity.count },
      { label: 'readable', show: ({ green }) => green.ok },
      { label: 'repaired', show: ({ green }) => green.repaired },
      { label: 'undefined', show: ({ green }) => green.undefined },
      {
        label: 'unreadable',
        show: ({ green }) => html`${total(green.unreadable)} <small>${reasons(green.unreadable)}</small>`,
      },
      { label: 'failed', show: ({ green }) => green.failed },
      { label: 'no report', show: ({ green }) => green.missing },
      { label: 'cut', show: (row) => row.cut },
    ],
    data: ({ system, reports, cut, green }) => ({
      system,
      reports,
      cut,
      scored: green.strict.count,
      strict: green.strict.value,
      low: green.strict.interval?.low ?? null,
      high: green.strict.interval?.high ?? null,
      boundLow: green.bounds?.low ?? null,
      boundHigh: green.bounds?.high ?? null,
      parity: green.parity.value,
      parityReplies: green.parity.count,
      ok: green.ok,
      repaired: green.repaired,
      undefined: green.undefined,
      unreadable: total(green.unreadable),
      failed: green.failed,
      missing: green.missing,
      reasons: reasons(green.unreadable),
    }),
  })
}

/** A measure beside itself for every system. */
function errorsTable(folder: EvaluationFolder): Table | null {
  const systems = greenRows(folder)
  const without = (i: number) => (row: GreenRow) => ({
    readable: row.green.withoutError.readable[i],
    parity: row.green.withoutError.parity[i],
  })
  const found = (kind: 'micro' | 'macro', rate: 'precision' | 'recall') => (row: GreenRow) => ({
    readable: row.green.findings[kind][rate],
    parity: null,
  })
  const rows = [
    ...categories.map((name, i) => ({ name, of: without(i) })),
    { name: 'precision of findings, all together', of: found('micro', 'precision') },
    { name: 'recall of findings, all together', of: found('micro', 'recall') },
    { name: 'precision of findings, mean of reports', of: found('macro', 'precision') },
    { name: 'recall of findings, mean of reports', of: found('macro', 'recall') },
  ]
  return tableOf({
    name: 'green-errors',
    isSmall: systems.length <= few,
    rows: systems.length > 0 ? rows : [],
    columns: [
      { label: 'reports, %', show: ({ name }) => name },
      ...systems.map((row) => ({
        label: `${row.system}, n = ${row.green.ok + row.green.repaired}`,
        show: ({ of }: (typeof rows)[number]) => {
          const { readable, parity } = of(row)
          return html`${percent(readable ?? Number.NaN)}${parity !== null && html` <small>parity ${percent(parity)}</small>`}`
        },
      })),
    ],
    data: ({ name, of }) => ({
      measure: name,
      ...Object.fromEntries(
        systems.flatMap((row) => [
          [`${row.system} n`, row.green.ok + row.green.repaired],
          [`${row.system} readable`, of(row).readable],
          [`${row.system} parity`, of(row).parity],
        ]),
      ),
    }),
  })
}

function comparedTable({ results }: EvaluationFolder): Table | null {
  const rows = (results.reports?.comparisons ?? []).flatMap(({ system, scores }) =>
    scores.map((score) => ({ system, score })),
  )
  return tableOf<{ system: string; score: ComparedScore }>({
    name: 'report-comparisons',
    rows,
    above: ({ system }) => `${system} − ${results.baseline}`,
    columns: [
      { label: 'score', show: ({ score }) => greenNames[score.name] ?? said(score.name) },
      { label: 'n', show: ({ score }) => score.both },
      { label: 'difference', show: ({ score }) => signed(score.difference.value) },
      { label: 'cluster interval', show: ({ score }) => decimalInterval(score.difference.interval) },
      { label: 'sign-flip p', show: ({ score }) => (score.p === null ? '–' : pValue(score.p)) },
      {
        label: 'without a score',
        show: ({ score: { lost } }) =>
          html`${lost.baseline} and ${lost.system} <small>Fisher p ${pValue(lost.p)}</small>`,
      },
    ],
    data: ({ system, score: { name, both, difference, p, lost } }) => ({
      system,
      baseline: results.baseline,
      score: name,
      both,
      difference: difference.value,
      low: difference.interval?.low ?? null,
      high: difference.interval?.high ?? null,
      signFlip: p,
      lostBaseline: lost.baseline,
      lostSystem: lost.system,
      lostP: lost.p,
    }),
  })
}

function unreadableTable({ results, reports }: EvaluationFolder): Table | null {
  if (!results.reports?.green) return null
  const rows = reports.filter(({ strict }) => strict === null || strict.status === 'unreadable')
  return tableOf({
    name: 'green-unreadable',
    rows,
    columns: [
      { label: 'report', kind: 'text', show: ({ sampleId }) => said(sampleId) },
      { label: 'system', kind: 'text', show: ({ system }) => systemName(results, system) },
      {
        label: 'why',
        kind: 'text',
        show: ({ strict, failure }) => said(strict?.reason?.replaceAll('_', ' ') ?? failure ?? 'no reply'),
      },
      {
        label: 'reply',
        kind: 'text',
        show: ({ raw }) => raw !== null && html`<div class="long">${said(cut(raw))}</div>`,
      },
    ],
    data: ({ sampleId, system, strict, failure, raw }) => ({
      sampleId,
      system,
      reason: strict?.reason ?? failure ?? 'no reply',
      raw,
    }),
  })
}

function scoresTable({ results }: EvaluationFolder): Table | null {
  const systems = results.reports?.systems ?? []
  const names = [...new Set(systems.flatMap(({ scores }) => Object.keys(scores)))]
  const scoreOf = ({ scores }: ReportResults, name: string): MeanByCluster | undefined => scores[name]
  return tableOf({
    name: 'report-scores',
    isSmall: systems.length <= few,
    rows: systems.length > 0 ? names : [],
    columns: [
      { label: 'mean', show: (name) => said(name) },
      ...systems.map((row) => ({
        label: row.system,
        show: (name: string) => {
          const score = scoreOf(row, name)
          return score ? html`${meanWithInterval(score)}<small>n = ${score.count}</small>` : '–'
        },
      })),
    ],
    data: (name) => ({
      score: name,
      ...Object.fromEntries(
        systems.flatMap((row) => {
          const score = scoreOf(row, name)
          return [
            [`${row.system} n`, score?.count ?? null],
            [`${row.system} mean`, score?.value ?? null],
            [`${row.system} low`, score?.interval?.low ?? null],
            [`${row.system} high`, score?.interval?.high ?? null],
          ]
        }),
      ),
    }),
  })
}
