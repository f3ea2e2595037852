/** What arms are compared by: a value for each question or pair, whose mean is the number of the arm. */
import type { EvaluationResults, VerdictRecord } from '../evaluate/index.js'
import type { ClusteredItem } from '../statistics/index.js'
import { type Comparison, type Measure, type Metric, measures } from './settings.js'

/** The value of a question or pair; those about one image are a cluster. */
export interface MeasuredItem extends ClusteredItem {
  id: string
}

/** An answer as comparisons need it. */
export interface CountedAnswer extends Pick<VerdictRecord, 'imageId' | 'closedUnder'> {
  id: string
  isRight: boolean
}

/** What is compared of a run. */
export interface Measured {
  /** First answers in the order of the questions; null where they are not done. */
  answers: CountedAnswer[] | null
  /** Of its further evaluations. */
  measured: Partial<Record<Measure, MeasuredItem[]>>
}

export const isMeasure = (metric: Comparison['metric']): metric is Measure =>
  (measures as readonly string[]).includes(metric)

/** Whether a question counts under the metric; closed by answer_type. */
const counts = (metric: Metric, { closedUnder }: Pick<VerdictRecord, 'closedUnder'>): boolean =>
  metric === 'overall' || closedUnder.answerType === (metric === 'closed')

/** What the metric counts of a run, in the order of its questions; null where it is not measured. */
export function itemsOf({ answers, measured }: Measured, metric: Comparison['metric']): MeasuredItem[] | null {
  if (isMeasure(metric)) return measured[metric] ?? null
  const asked = answers?.filter((answer) => counts(metric, answer))
  return asked?.map(({ id, imageId: cluster, isRight }) => ({ id, cluster, value: Number(isRight) })) ?? null
}

/** Right answers of the first system; none of none where it has no such questions. */
export function groupOf(
  { systems: [system] }: EvaluationResults,
  metric: Metric,
): { successes: number; count: number } {
  const group = system.groups.find(({ kind, name }) =>
    metric === 'overall' ? kind === 'overall' : kind === 'answerType' && name === metric,
  )
  return { successes: group?.accuracy.successes ?? 0, count: group?.accuracy.count ?? 0 }
}
