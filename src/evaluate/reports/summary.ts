/** The numbers of a set of reports, and two systems on the same reports. */
import {
  type ClusteredItem,
  clusterSignFlip,
  countClusters,
  fewestClusters,
  fisherExact,
  type Interval,
  type MeanByCluster,
  meanByCluster,
} from '../../statistics/index.js'
import type { GreenReading, ReportRecord } from '../records.js'

/** Precision and recall of findings from GREEN's counts: `matched / (matched + a + c + d)` and `matched / (matched + b + c + d)`; null of no finding. */
export interface FindingRates {
  precision: number | null
  recall: number | null
}

/** GREEN of one system. */
export interface GreenResults {
  reports: number
  /** The system gave none: there was nothing to ask about. */
  missing: number
  /** Read as asked, read after repairs, unreadable by reason; requests that failed. */
  ok: number
  repaired: number
  unreadable: Record<string, number>
  failed: number
  /** Readable, with neither a match nor an error: they have no score. */
  undefined: number
  /** Mean of the readable ones, the careful reading. */
  strict: MeanByCluster
  /** The mean if all unreadable, failed and missing reports had 0, and if they had 1; null of no report. */
  bounds: Interval | null
  /** Mean over the replies as the published code counts them: what cannot be read is 0. */
  parity: MeanByCluster
  /** Share of reports without an error of a category, a to f, as published (unreadable ones count as without) and of the readable; null of none. */
  withoutError: { parity: (number | null)[]; readable: (number | null)[] }
  /** Of all findings together, and as a mean over reports. */
  findings: { micro: FindingRates; macro: FindingRates }
}

/** The system gave no report. */
const isMissing = ({ failure, words }: ReportRecord): boolean => failure !== null && words[1] === 0

const isReadable = (
  reading: GreenReading | null,
): reading is GreenReading & { significant: number[]; matched: number } =>
  reading !== null && reading.status !== 'unreadable'

const share = (sum: number, count: number): number | null => (count > 0 ? sum / count : null)
const mean = (values: readonly number[]): number | null =>
  share(
    values.reduce((sum, value) => sum + value, 0),
    values.length,
  )

/** @param records of one system, all asked. */
export function greenResults(records: readonly ReportRecord[], seed: number): GreenResults {
  const readable = records.flatMap(({ strict }) => (isReadable(strict) ? [strict] : []))
  const scored = records.flatMap(({ imageId, strict }): ClusteredItem[] =>
    strict?.green == null ? [] : [{ cluster: imageId, value: strict.green }],
  )
  const unreadable: Record<string, number> = {}
  for (const { strict } of records) {
    if (strict?.reason) unreadable[strict.reason] = (unreadable[strict.reason] ?? 0) + 1
  }
  const lost = records.length - readable.length
  const bound = scored.length + lost
  const total = scored.reduce((sum, { value }) => sum + value, 0)
  const parities = records.flatMap(({ imageId, parity }) => (parity ? [{ cluster: imageId, ...parity }] : []))
  const missing = records.filter(isMissing).length
  const none = (counts: readonly number[][]): (number | null)[] =>
    Array.from({ length: 6 }, (_, category) => mean(counts.map((each) => Number(each[category] === 0))))
  return {
    reports: records.length,
    ok: readable.filter(({ status }) => status === 'ok').length,
    repaired: readable.filter(({ status }) => status === 'repaired').length,
    unreadable,
    missing,
    failed: records.filter(({ strict }) => strict === null).length - missing,
    undefined: readable.length - scored.length,
    strict: meanByCluster(scored, seed),
    bounds: bound > 0 ? { low: total / bound, high: (total + lost) / bound } : null,
    parity: meanByCluster(
      parities.map(({ cluster, green }) => ({ cluster, value: green })),
      seed,
    ),
    withoutError: {
      parity: none(parities.map(({ significant }) => significant)),
      readable: none(readable.map(({ significant }) => significant)),
    },
    findings: findingRates(readable),
  }
}

function findingRates(readings: readonly { significant: number[]; matched: number }[]): GreenResults['findings'] {
  const rates = (all: readonly { significant: number[]; matched: number }[]): FindingRates => {
    const sum = (pick: (each: { significant: number[]; matched: number }) => number): number =>
      all.reduce((total, each) => total + pick(each), 0)
    const matched = sum((each) => each.matched)
    const misplaced = sum(({ significant: [, , c, d] }) => c + d)
    const rate = (others: number): number | null => share(matched, matched + others)
    return {
      precision: rate(sum(({ significant }) => significant[0]) + misplaced),
      recall: rate(sum(({ significant }) => significant[1]) + misplaced),
    }
  }
  const each = readings.map((reading) => rates([reading]))
  const defined = (values: readonly (number | null)[]): number[] => values.flatMap((value) => value ?? [])
  return {
    micro: rates(readings),
    macro: {
      precision: mean(defined(each.map(({ precision }) => precision))),
      recall: mean(defined(each.map(({ recall }) => recall))),
    },
  }
}

/** What reports of one system come to. */
export interface ReportResults {
  system: string
  reports: number
  /** Reports that the prompt of GREEN holds in part. */
  cut: number
  green: GreenResults | null
  /** Means of BLEU, ROUGE-L, CIDEr-D (a number of these references together) and imported scores. */
  scores: Record<string, MeanByCluster>
}

/** @param records of one system. */
export function reportResults(
  records: readonly ReportRecord[],
  { green, seed }: { green: boolean; seed: number },
): ReportResults {
  const names = [...new Set(records.flatMap(({ scores }) => Object.keys(scores)))]
  return {
    system: records[0]?.system ?? '',
    reports: records.length,
    cut: records.filter(({ cut }) => cut.includes(true)).length,
    green: green ? greenResults(records, seed) : null,
    scores: Object.fromEntries(names.map((name) => [name, meanByCluster(itemsOf(records, name), seed)])),
  }
}

function itemsOf(records: readonly ReportRecord[], name: string): ClusteredItem[] {
  return records.flatMap(({ imageId, scores }) =>
    scores[name] === undefined ? [] : [{ cluster: imageId, value: scores[name] }],
  )
}

/** Two systems on the reports that both have a score for; `value` is `system - baseline`. */
export interface ComparedScore {
  name: string
  both: number
  /** Reports with a score in one of them only. */
  lost: { baseline: number; system: number; p: number }
  difference: MeanByCluster
  /** Sign flips of images; null with fewer than 20. */
  p: number | null
}

const greenScores: Record<string, (record: ReportRecord) => number | null | undefined> = {
  green: ({ strict }) => strict?.green,
  greenParity: ({ parity }) => parity?.green,
}

/** Compares each score by image: GREEN's careful reading first, then the published one. */
export function compareReports(
  baseline: readonly ReportRecord[],
  system: readonly ReportRecord[],
  seed: number,
): ComparedScore[] {
  const scoreOf = (name: string) => (record: ReportRecord) =>
    (name in greenScores ? greenScores[name](record) : record.scores[name]) ?? undefined
  const names = [...Object.keys(greenScores), ...new Set(baseline.flatMap(({ scores }) => Object.keys(scores)))]
  const others = new Map(system.map((record) => [record.sampleId, record]))
  return names.flatMap((name): ComparedScore[] => {
    const score = scoreOf(name)
    const pairs = baseline.flatMap((record) => {
      const other = others.get(record.sampleId)
      return other ? [{ cluster: record.imageId, was: score(record), is: score(other) }] : []
    })
    const items = pairs.flatMap(({ cluster, was, is }): ClusteredItem[] =>
      was === undefined || is === undefined ? [] : [{ cluster, value: is - was }],
    )
    if (items.length === 0) return []
    const missing = [pairs.filter(({ was }) => was === undefined), pairs.filter(({ is }) => is === undefined)]
    const [lostBefore, lostAfter] = missing.map((each) => each.length)
    const of = (successes: number) => ({ successes, count: pairs.length })
    const enough = countClusters(items) >= fewestClusters
    return [
      {
        name,
        both: items.length,
        lost: { baseline: lostBefore, system: lostAfter, p: fisherExact(of(lostBefore), of(lostAfter)) },
        difference: meanByCluster(items, seed),
        p: enough ? clusterSignFlip(items, { seed }) : null,
      },
    ]
  })
}
