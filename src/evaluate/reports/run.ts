/** The free reports of an evaluation: word overlap, scores of other programs, and GREEN. */
import { join } from 'node:path'
import { writeJsonl } from '../../data/jsonl.js'
import type { Sample } from '../../data/records.js'
import type { StageContext } from '../../stage/stage.js'
import { evaluationFiles } from '../files.js'
import type { ReportsResults } from '../finished.js'
import type { Prediction, ReportRecord } from '../records.js'
import { readScores, scoreKey } from './imported.js'
import { ciderD, reportWords } from './ngrams.js'
import { askGreen, type GreenRequest, type ReportWithTexts, reportRecord } from './score.js'
import { compareReports, reportResults } from './summary.js'

/** How reports are scored. */
export interface ReportScoring {
  out: string
  green?: GreenRequest
  /** Files of scores of other programs. */
  scores: readonly string[]
  baseline: string
  seed: number
}

/** What an earlier evaluation of the same answers found: replies of GREEN, and scores of other programs. */
export interface EarlierReports {
  records: readonly ReportRecord[]
  green: ReportsResults['green']
}

/**
 * Scores the reports among the answers and writes reports.jsonl.
 * @param names of the systems, in order.
 * @param earlier is taken where `green` or `scores` say nothing else.
 * @returns null where no sample is a report.
 */
export async function scoreReports(
  samples: readonly Sample[],
  predictions: readonly Prediction[],
  names: readonly string[],
  { out, green, scores, baseline, seed }: ReportScoring,
  context: Pick<StageContext, 'signal' | 'progress'>,
  earlier?: EarlierReports,
): Promise<ReportsResults | null> {
  const asked = new Map(samples.filter(({ task }) => task === 'report').map((each) => [each.id, each]))
  if (asked.size === 0) {
    if (green || scores.length > 0)
      context.progress.log('no sample is a report: GREEN and scores have nothing to look at')
    return null
  }
  const known = new Map(earlier?.records.map((each) => [scoreKey(each.system, each.sampleId), each]))
  const imported = await readScores(scores, names, new Set(asked.keys()))
  let reports = names.flatMap((name): ReportWithTexts[] => {
    const answers = predictions.filter(({ system, sampleId, k }) => system === name && asked.has(sampleId) && k === 0)
    const texts = answers.map(({ sampleId, text }) => ({
      reference: (asked.get(sampleId) as Sample).answer,
      candidate: text ?? '',
    }))
    const cider = ciderD(
      texts.map(({ reference, candidate }) => ({
        reference: reportWords(reference),
        candidate: reportWords(candidate),
      })),
    )
    return answers.map((answer, i) => {
      const key = scoreKey(name, answer.sampleId)
      const before = known.get(key)
      const theirs = scores.length > 0 ? imported.get(key) : before?.scores
      const record = reportRecord(asked.get(answer.sampleId) as Sample, answer, cider[i], theirs)
      if (green || !before) return { record, ...texts[i] }
      const { raw, servedAs, date, failure, parity, strict } = before
      return { record: { ...record, raw, servedAs, date, failure, parity, strict }, ...texts[i] }
    })
  })
  let counted = earlier?.green ?? null
  if (green) {
    const asking = await askGreen(reports, green, context)
    reports = asking.reports
    counted = asking.about
  }
  const records = reports.map(({ record }) => record)
  await writeJsonl(join(out, evaluationFiles.reports), records)
  const of = (name: string): ReportRecord[] => records.filter(({ system }) => system === name)
  return {
    systems: names.map((name) => ({ ...reportResults(of(name), { green: counted !== null, seed }), system: name })),
    comparisons: names
      .filter((name) => name !== baseline)
      .map((name) => ({ system: name, scores: compareReports(of(baseline), of(name), seed) })),
    green: counted,
  }
}
