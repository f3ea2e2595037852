/** The judges: who they are, how they agree, and every reply that says nothing. */
import { html } from '../../page/html.js'
import { intervalOfShares, percent, said } from '../../page/numbers.js'
import type { Proportion } from '../../statistics/index.js'
import type { LabelledSystem } from '../judges/labels.js'
import type { JudgeVerdict, VerdictRecord } from '../records.js'
import type { JudgeAbout } from '../results.js'
import type { EvaluationFolder } from './folder.js'
import { systemName } from './systems.js'
import { present, type Section, type Table, tableOf } from './table.js'
import { cut, decimal, decimalInterval } from './words.js'

export function judgeSection(folder: EvaluationFolder): Section | null {
  const { judging } = folder.results
  const about = judgesTable([judging.judge, judging.second].flatMap((each) => each ?? []))
  const agreement = agreementTable(folder)
  const labelled = labelsTable(folder)
  const again = retestTable(folder)
  const differing = disagreements(folder)
  const silent = silentReplies(folder)
  const missing = missingAnswers(folder)
  const tables = present(about, labelled, agreement, again, differing, silent, missing)
  if (tables.length === 0) return null
  const title = 'Judges, and answers without a verdict'
  const part = (heading: string, note: string, table: Table | null) =>
    table && html`<h3 class="part">${heading}</h3>${note !== '' && html`<p class="note">${note}</p>`}${table.html}`
  return {
    title,
    tables,
    html: html`<h2>${title}</h2>
      ${about?.html}
      ${part(
        'Verdicts against people’s labels',
        'Sensitivity: of the answers that people call correct, those that were judged so; specificity: of the incorrect ones, those that were not. Corrected: accuracy without these errors (Rogan and Gladen). All intervals take answers as independent.',
        labelled,
      )}
      ${part('Agreement of the two judges', 'Where nearly all verdicts are of one kind, kappa falls although the judges agree; AC1 does not.', agreement)}
      ${part('Agreement with the judging before', '', again)}
      ${part('Where they disagree', '', differing)}
      ${part('Replies that could not be read or never came', 'They are neither right nor wrong verdicts; the answers stay in n.', silent)}
      ${part('Answers that are missing', '', missing)}`,
  }
}

const judgesTable = (judges: readonly JudgeAbout[]): Table | null =>
  tableOf({
    name: 'judges',
    rows: judges,
    columns: [
      {
        label: 'judge',
        show: ({ model, servedAs }) =>
          html`${said(model)}${servedAs.length > 0 && html` <small>served as ${said(servedAs.join(', '))}</small>`}`,
      },
      { label: 'date', show: ({ date }) => date },
      { label: 'protocol', show: ({ protocol }) => protocol },
      { label: 'prompt (SHA-256)', show: ({ promptSha256 }) => html`<code>${promptSha256.slice(0, 12)}</code>` },
      { label: 'judged', show: ({ judged }) => judged },
      { label: 'unreadable', show: ({ unreadable }) => unreadable },
      { label: 'failed', show: ({ failed }) => failed },
      { label: 'cost, US$', show: ({ cost }) => decimal(cost, 2) },
    ],
    data: ({ servedAs, ...judge }) => ({ ...judge, servedAs: servedAs.join(' ') }),
  })

function agreementTable({ results }: EvaluationFolder): Table | null {
  const { agreement } = results.judging
  const interval = ({ kappa, standardError }: NonNullable<typeof agreement>) =>
    kappa === null || standardError === null
      ? null
      : { low: kappa - 1.96 * standardError, high: kappa + 1.96 * standardError }
  return tableOf({
    name: 'agreement',
    rows: agreement ? [agreement] : [],
    columns: [
      { label: 'n', show: ({ count }) => count },
      { label: 'agreement, %', show: (row) => percent(row.agreement) },
      {
        label: 'kappa',
        show: (row) => html`${decimal(row.kappa)} <small>${decimalInterval(interval(row))}</small>`,
      },
      { label: 'AC1', show: ({ gwetAC1 }) => decimal(gwetAC1) },
      { label: 'on “correct”, %', show: (row) => percent(row.positiveAgreement) },
      { label: 'on “incorrect”, %', show: (row) => percent(row.negativeAgreement) },
      { label: 'left out', show: ({ leftOut }) => leftOut },
    ],
    data: (row) => ({ ...row, kappaLow: interval(row)?.low ?? null, kappaHigh: interval(row)?.high ?? null }),
  })
}

function labelsTable({ results }: EvaluationFolder): Table | null {
  const share = (of: Proportion) =>
    html`${percent(of.value)} <small>${intervalOfShares(of)}, ${of.successes} / ${of.count}</small>`
  return tableOf<LabelledSystem>({
    name: 'labels',
    rows: results.labels?.systems ?? [],
    columns: [
      { label: 'system', show: ({ system }) => systemName(results, system) },
      { label: 'sensitivity, %', show: ({ sensitivity }) => share(sensitivity) },
      { label: 'specificity, %', show: ({ specificity }) => share(specificity) },
      { label: 'accuracy as judged, %', show: ({ reported }) => share(reported) },
      {
        label: 'corrected, %',
        show: ({ corrected }) =>
          corrected ? html`${percent(corrected.value)} <small>${intervalOfShares(corrected)}</small>` : '–',
      },
    ],
    data: ({ system, sensitivity, specificity, reported, corrected }) => ({
      system,
      ...cellsOf('sensitivity', sensitivity),
      ...cellsOf('specificity', specificity),
      ...cellsOf('reported', reported),
      corrected: corrected?.value ?? null,
      correctedLow: corrected?.low ?? null,
      correctedHigh: corrected?.high ?? null,
    }),
  })
}

const cellsOf = (name: string, { successes, count, low, high }: Proportion) => ({
  [`${name}Successes`]: successes,
  [`${name}Count`]: count,
  [`${name}Low`]: low,
  [`${name}High`]: high,
})

const retestTable = ({ results: { retest } }: EvaluationFolder): Table | null =>
  tableOf({
    name: 'retest',
    rows: retest ? [retest] : [],
    columns: [
      { label: 'answers judged again', show: ({ count }) => count },
      { label: 'other verdict now', show: ({ changed }) => changed },
      { label: 'agreement, %', show: ({ agreement }) => (agreement ? percent(agreement.agreement) : '–') },
      { label: 'kappa', show: ({ agreement }) => decimal(agreement?.kappa ?? null) },
      { label: 'AC1', show: ({ agreement }) => decimal(agreement?.gwetAC1 ?? null) },
      { label: 'left out', show: ({ agreement, count }) => agreement?.leftOut ?? count },
    ],
    data: ({ folder, count, changed, agreement }) => ({
      ...{ folder, count, changed },
      agreement: agreement?.agreement ?? null,
      kappa: agreement?.kappa ?? null,
      gwetAC1: agreement?.gwetAC1 ?? null,
      leftOut: agreement?.leftOut ?? count,
    }),
  })

function disagreements({ results, verdicts }: EvaluationFolder): Table | null {
  return tableOf<VerdictRecord>({
    name: 'disagreements',
    rows: verdicts.filter(({ judge, second }) => judge && second && judge.verdict !== second.verdict),
    columns: [
      {
        label: 'question',
        kind: 'text',
        show: (row) => html`${said(cut(row.question, 200))} <small>${row.sampleId}</small>`,
      },
      { label: 'system', kind: 'text', show: ({ system }) => systemName(results, system) },
      { label: 'reference', kind: 'text', show: ({ reference }) => said(cut(reference, 200)) },
      { label: 'answer', kind: 'text', show: (row) => said(cut(row.said, 200)) },
      { label: 'first judge', kind: 'text', show: ({ judge }) => judgement(judge) },
      { label: 'second judge', kind: 'text', show: ({ second }) => judgement(second) },
    ],
    data: ({ system, sampleId, k, question, reference, said, judge, second }) => ({
      system,
      sampleId,
      k,
      question,
      reference,
      said,
      judge: judge?.verdict ?? null,
      judgeReason: judge?.reason ?? null,
      second: second?.verdict ?? null,
      secondReason: second?.reason ?? null,
    }),
  })
}

const judgement = (judge: VerdictRecord['judge']) =>
  judge && html`${judge.verdict}${judge.reason.trim() !== '' && html` <small>${said(cut(judge.reason, 200))}</small>`}`

function silentReplies({ results, verdicts }: EvaluationFolder): Table | null {
  const rows = verdicts.flatMap(({ system, sampleId, k, question, said, judge, second }) =>
    [judge, second].flatMap((reply) =>
      reply && (reply.verdict === 'unreadable' || reply.verdict === 'failed')
        ? [{ ...{ system, sampleId, k, question, said }, ...aboutReply(reply) }]
        : [],
    ),
  )
  return tableOf({
    name: 'silent-replies',
    rows,
    columns: [
      {
        label: 'question',
        kind: 'text',
        show: (row) => html`${said(cut(row.question, 200))} <small>${row.sampleId}</small>`,
      },
      { label: 'system', kind: 'text', show: ({ system }) => systemName(results, system) },
      { label: 'answer', kind: 'text', show: (row) => said(cut(row.said, 200)) },
      { label: 'judge', kind: 'text', show: ({ model }) => said(model) },
      {
        label: 'what came',
        kind: 'text',
        show: ({ verdict, reason, raw }) =>
          html`${verdict}: ${said(cut(reason))}${raw !== null && raw.trim() !== '' && html`<div class="long">${said(cut(raw))}</div>`}`,
      },
    ],
    data: (row) => row,
  })
}

const aboutReply = ({ model, servedAs, verdict, reason, raw }: JudgeVerdict) => ({
  model,
  servedAs,
  verdict,
  reason,
  raw,
})

/** By reason: a file may lack thousands. */
function missingAnswers({ results, verdicts }: EvaluationFolder): Table | null {
  const counts = new Map<string, { system: string; reason: string; count: number }>()
  for (const { system, verdict, judge, reason } of verdicts) {
    if (verdict !== 'failed' || judge) continue
    const key = JSON.stringify([system, reason])
    const entry = counts.get(key) ?? { system, reason, count: 0 }
    entry.count += 1
    counts.set(key, entry)
  }
  return tableOf({
    name: 'missing-answers',
    isSmall: true,
    rows: [...counts.values()],
    columns: [
      { label: 'system', show: ({ system }) => systemName(results, system) },
      { label: 'why', kind: 'text', show: ({ reason }) => said(cut(reason)) },
      { label: 'answers', show: ({ count }) => count },
    ],
    data: (row) => row,
  })
}
