/** Which questions an accuracy of a study is of. */
import type { EvaluationResults, VerdictRecord } from '../evaluate/index.js'
import type { Metric } from './settings.js'

/** Whether a question counts under the metric; closed by the data set's own field. */
export const counts = (metric: Metric, { closedUnder }: Pick<VerdictRecord, 'closedUnder'>): boolean =>
  metric === 'overall' || closedUnder.answerType === (metric === 'closed')

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
