/** Curves of one run beside the answers of another one's adapter would pass for one result. */
import { dirname } from 'node:path'
import { CheckpointError } from '../errors.js'
import type { EvaluationResults } from '../evaluate/finished.js'
import { keptAdapters } from '../train/kept-adapters.js'
import type { TrainReport } from '../train/train-report.js'

/**
 * @param metrics of the run. @param evaluation its folder.
 * @throws {CheckpointError} when the evaluation has adapters and none of them is of the run.
 */
export async function refuseOtherRun(
  metrics: string,
  report: Pick<TrainReport, 'best' | 'adapterSha256'>,
  evaluation: string,
  { systems }: Pick<EvaluationResults, 'systems'>,
): Promise<void> {
  const adapters = systems.flatMap(({ name, about: { adapterSha256: hash } }) =>
    typeof hash === 'string' ? [{ name, hash }] : [],
  )
  if (adapters.length === 0) return
  const run = dirname(metrics)
  const kept = await keptAdapters(run, report)
  const own = kept.flatMap(({ sha256 }) => sha256 ?? [])
  // Of a run whose adapters were deleted, with no report of their hashes, nothing can be said.
  if (own.length === 0 || adapters.some(({ hash }) => own.includes(hash))) return
  const others = adapters.map(({ name, hash }) => `${name} with SHA-256 ${hash.slice(0, 12)}…`).join(', ')
  throw new CheckpointError(`${evaluation} is no evaluation of the run ${run}: its adapters are ${others}`, {
    detail: { path: evaluation, run },
    hint: 'Name the evaluation of this run, or leave one of the two out.',
  })
}
