/** Systems on the same questions: what may be said of their difference. */
import { DataError } from '../errors.js'
import {
  type Bootstrap,
  benjaminiHochberg,
  type ClusteredItem,
  clusterBootstrap,
  clusteredMean,
  clusterSignFlip,
  countPaired,
  fewestClusters,
  fisherExact,
  holm,
  type Interval,
  mcnemarExact,
  mcnemarMidP,
  type PairedCounts,
  pairedDifference,
} from '../statistics/index.js'
import { type AnswerGroup, type Bounds, groupsOf, isLost, mostLost } from './groups.js'
import type { VerdictRecord } from './records.js'
import { isRight } from './verdicts.js'

/**
 * `gain` and `loss`: the exact test holds under Holm, the cluster interval excludes 0, and so it stays whatever a judge would have said
 * whose replies are lost. `equivalent`: the interval lies within the margin, and so do the worst cases. Everything else is
 * `not_resolved`: neither a difference nor its absence was shown.
 */
export type Resolution = 'gain' | 'loss' | 'equivalent' | 'not_resolved'

/** Two systems in one group of questions; differences are `system - baseline`, as shares. */
export interface ComparedGroup extends AnswerGroup {
  count: number
  counts: PairedCounts
  /** Newcombe's paired interval: questions taken as independent. */
  difference: Interval & { value: number }
  /** By image; intervals and test are null with fewer than 20. */
  clusters: {
    count: number
    /** Null for one image, and where all values are equal. */
    designEffect: number | null
    robust: Interval | null
    bootstrap: Bootstrap | null
    signFlip: number | null
  }
  mcnemar: { exact: number; midP: number }
  /** The difference if answers without a verdict were wrong for one and right for the other; null where both have 2 % or fewer. */
  bounds: Bounds | null
  /**
   * All questions: Holm over the systems of the table, but for the primary comparison, which was fixed beforehand and stands alone.
   * Subgroups: over each other.
   */
  adjusted: { holm: number | null; benjaminiHochberg: number | null }
}

/** One system against the baseline. */
export interface SystemComparison {
  baseline: string
  system: string
  /** The one that was named beforehand, or the only one; null where there are several and none was named. */
  role: 'primary' | 'exploratory' | null
  conclusion: Resolution
  /** The worst cases that forbid what the interval alone would say; null where there are none. */
  doubt: Bounds | null
  /** All questions first; the rest is exploratory. */
  groups: ComparedGroup[]
  /** Answers that are missing or unreadable in one arm more than in the other make the comparison doubtful; p of Fisher's test. */
  lost: { baseline: number; system: number; p: number }
}

export interface ComparisonOptions {
  baseline: string
  /** Differences below this share do not matter; 0.03 is three points. */
  margin: number
  seed: number
  /** The system whose comparison was fixed beforehand; default: none, or the only one. */
  primary?: string | null
}

/**
 * Compares every system with the baseline, on the first answer to each question.
 * @throws {DataError} when two systems answered other questions.
 */
export function compareSystems(
  verdicts: ReadonlyMap<string, readonly VerdictRecord[]>,
  { baseline, margin, seed, primary: named = null }: ComparisonOptions,
): SystemComparison[] {
  const first = (name: string): VerdictRecord[] => (verdicts.get(name) ?? []).filter(({ k }) => k === 0)
  const before = first(baseline)
  const others = [...verdicts.keys()].filter((name) => name !== baseline)
  const compared = others.map((system) => {
    const after = sameQuestions(before, first(system), baseline, system)
    return { system, after, groups: compareGroups(before, after, seed) }
  })
  const primary = named ?? (others.length === 1 ? others[0] : null)
  const pOf = ({ groups }: (typeof compared)[number]): number => groups[0]?.mcnemar.exact ?? 1
  const rest = compared.filter(({ system }) => system !== primary)
  const adjusted = new Map(holm(rest.map(pOf)).map((p, i) => [rest[i], p]))
  return compared.map((each) => {
    const { system, after, groups } = each
    const [all, ...subgroups] = groups
    if (all) all.adjusted.holm = adjusted.get(each) ?? pOf(each)
    const exploratory = benjaminiHochberg(subgroups.map(({ mcnemar }) => mcnemar.exact))
    for (const [j, group] of subgroups.entries()) group.adjusted.benjaminiHochberg = exploratory[j]
    const role = primary === null ? null : system === primary ? ('primary' as const) : ('exploratory' as const)
    const worst = { lost: worstCases(before, after, hasNoVerdict), silent: worstCases(before, after, isSilent) }
    const conclusion = resolve(all, margin, worst)
    return { baseline, system, role, ...conclusion, groups, lost: lostIn(before, after) }
  })
}

/** `after` in the order of `before`. */
function sameQuestions(
  before: readonly VerdictRecord[],
  after: readonly VerdictRecord[],
  baseline: string,
  system: string,
): VerdictRecord[] {
  const keyOf = ({ sampleId, question, reference, imageId }: VerdictRecord): string =>
    JSON.stringify([sampleId, question, reference, imageId])
  const [asked, answered] = [before, after].map((round) => new Map(round.map((each) => [keyOf(each), each])))
  const stray = before.find((each) => !answered.has(keyOf(each))) ?? after.find((each) => !asked.has(keyOf(each)))
  if (!stray) return before.map((each) => answered.get(keyOf(each)) as VerdictRecord)
  const place = stray.sampleId
  throw new DataError(`${baseline} and ${system} answered other questions, first ${place}`, {
    detail: { baseline, system, sampleId: place },
    hint: 'Only answers to the same questions about the same images with the same references can be compared.',
  })
}

/** Two systems, in each group that the first one's records have. @param after answers to the same questions, in order. */
export function compareGroups(
  before: readonly VerdictRecord[],
  after: readonly VerdictRecord[],
  seed: number,
): ComparedGroup[] {
  return groupsOf(before).map(({ kind, name, holds }) => {
    const places = [...before.keys()].filter((i) => holds(before[i]))
    const counts = countPaired(
      places.map((i) => isRight(before[i])),
      places.map((i) => isRight(after[i])),
    )
    const items = places.map((i): ClusteredItem => {
      return { cluster: before[i].imageId, value: Number(isRight(after[i])) - Number(isRight(before[i])) }
    })
    const { clusters, designEffect, low, high } = clusteredMean(items)
    const enough = clusters >= fewestClusters
    return {
      kind,
      name,
      count: places.length,
      counts,
      difference: pairedDifference(counts),
      bounds: worstCases(
        places.map((i) => before[i]),
        places.map((i) => after[i]),
        isLost,
      ),
      clusters: {
        count: clusters,
        designEffect: Number.isFinite(designEffect) ? designEffect : null,
        robust: enough ? { low, high } : null,
        bootstrap: enough ? clusterBootstrap(items, { seed }) : null,
        signFlip: enough ? clusterSignFlip(items, { seed }) : null,
      },
      mcnemar: { exact: mcnemarExact(counts), midP: mcnemarMidP(counts) },
      adjusted: { holm: null, benjaminiHochberg: null },
    }
  })
}

/** Missing, or not judged: what commits to nothing is known to. */
const hasNoVerdict = ({ verdict }: VerdictRecord): boolean => verdict === 'unreadable' || verdict === 'failed'

/** A judge was asked and gave no verdict: unlike an answer that is missing or says nothing, the answer itself may be right. */
const isSilent = (record: VerdictRecord): boolean => record.judge !== null && hasNoVerdict(record)

/** @param lost whose outcome is taken as open; null where that is 2 % of both or fewer. */
function worstCases(
  before: readonly VerdictRecord[],
  after: readonly VerdictRecord[],
  lost: (record: VerdictRecord) => boolean,
): Bounds | null {
  const tooMany = (records: readonly VerdictRecord[]): boolean =>
    records.filter(lost).length > mostLost * records.length
  if (!tooMany(before) && !tooMany(after)) return null
  const right = (records: readonly VerdictRecord[], withLost: boolean): number =>
    records.filter((record) => isRight(record) || (withLost && lost(record))).length
  const difference = (lostBefore: boolean): number =>
    (right(after, !lostBefore) - right(before, lostBefore)) / before.length
  return { low: difference(true), high: difference(false) }
}

function resolve(
  all: ComparedGroup | undefined,
  margin: number,
  { lost, silent }: { lost: Bounds | null; silent: Bounds | null },
): Pick<SystemComparison, 'conclusion' | 'doubt'> {
  const interval = all?.clusters.bootstrap
  const unresolved = { conclusion: 'not_resolved', doubt: null } as const
  if (!all || !interval) return unresolved
  if ((all.adjusted.holm ?? 1) < 0.05 && (interval.low > 0 || interval.high < 0)) {
    const conclusion = interval.low > 0 ? 'gain' : 'loss'
    const holds = !silent || (conclusion === 'gain' ? silent.low > 0 : silent.high < 0)
    return holds ? { conclusion, doubt: null } : { ...unresolved, doubt: silent }
  }
  const within = ({ low, high }: Bounds): boolean => low > -margin && high < margin
  if (!within(interval)) return unresolved
  return lost && !within(lost) ? { ...unresolved, doubt: lost } : { conclusion: 'equivalent', doubt: null }
}

function lostIn(before: readonly VerdictRecord[], after: readonly VerdictRecord[]): SystemComparison['lost'] {
  const lost = (records: readonly VerdictRecord[]): number => records.filter(hasNoVerdict).length
  const [baseline, system] = [lost(before), lost(after)]
  const of = (successes: number) => ({ successes, count: before.length })
  return { baseline, system, p: fisherExact(of(baseline), of(system)) }
}
