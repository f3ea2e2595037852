/** Curves of one run beside the answers of another one's adapter would pass for one result. */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { hashModel } from '../data/files.js'
import { CheckpointError } from '../errors.js'
import type { EvaluationResults } from '../evaluate/finished.js'
import { runAdapters, runFiles } from '../train/run-folder.js'
import type { TrainReport } from '../train/train.js'

/**
 * @param metrics of the run. @param evaluation its folder.
 * @throws {CheckpointError} when the evaluation has adapters and none of them is of the run.
 */
export async function refuseOtherRun(
  metrics: string,
  { best }: Pick<TrainReport, 'best'>,
  evaluation: string,
  { systems }: Pick<EvaluationResults, 'systems'>,
): Promise<void> {
  const adapters = systems.flatMap(({ name, about: { adapterSha256: hash } }) =>
    typeof hash === 'string' ? [{ name, hash }] : [],
  )
  if (adapters.length === 0) return
  const run = dirname(metrics)
  const kept = [...(best ? [join(run, runFiles.best)] : []), ...(await runAdapters(run)).map(({ path }) => path)]
  const own: string[] = []
  // Of a run whose adapters were deleted nothing can be said.
  for (const path of kept) if (existsSync(path)) own.push(await hashModel(path))
  if (own.length === 0 || adapters.some(({ hash }) => own.includes(hash))) return
  const others = adapters.map(({ name, hash }) => `${name} with SHA-256 ${hash.slice(0, 12)}…`).join(', ')
  throw new CheckpointError(`${evaluation} is no evaluation of the run ${run}: its adapters are ${others}`, {
    detail: { path: evaluation, run },
    hint: 'Name the evaluation of this run, or leave one of the two out.',
  })
}
