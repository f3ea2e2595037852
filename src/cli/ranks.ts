/** A command that may be one of several ranks: they begin, stop, fail and end together. */
import { UnsupportedError } from '../errors.js'
import { worldOf } from '../ranks/environment.js'
import { type Joined, joinRanks } from '../ranks/join.js'
import { heedMs, together } from '../ranks/together.js'
import type { Progress } from '../stage/index.js'
import { catchSignals } from './signals.js'

/** What the work of a rank came to. */
export interface RankOutcome<T> {
  result: T
  rank: number
  /** 128 and the number of the signal that asked for a stop, on any rank; `undefined` when none came. */
  exitCode: number | undefined
}

/**
 * Joins the ranks of the environment and does the work of this one. A process alone is the only rank.
 * @param work `signal` fires when somebody asks for a stop, or when another rank fails.
 * @throws what the work throws, or the `RankError` of the rank that failed first.
 */
export async function asRank<T>(
  progress: Progress,
  work: (ranks: Joined, signal: AbortSignal) => Promise<T>,
): Promise<RankOutcome<T>> {
  let ranks: Joined | undefined
  using stop = catchSignals((name) => {
    // mpirun and batch systems end the ranks of a run that failed in this way.
    if (ranks?.signal.aborted) return
    progress.log(`${name}: saving and stopping; again to leave at once`)
    ranks?.askToStop(name)
  })
  const onLog = (line: string): void => progress.log(`warning: ${line}`)
  ranks = await joinRanks({ signal: stop.signal, onLog, onStop: stop.pass })
  const joined = ranks
  // What is stuck in the engine must not keep the process.
  joined.signal.addEventListener('abort', () => void setTimeout(() => process.exit(1), 2 * heedMs).unref())
  const signal = AbortSignal.any([stop.signal, joined.signal])
  const result = await together(joined, () => work(joined, signal))
  return { result, rank: joined.rank, exitCode: stop.exitCode }
}

/** Several processes would do the same work and write it to one output. @throws {UnsupportedError} */
export function refuseRanks(name: string): void {
  const world = worldOf(process.env)
  if (world === null || world.size === 1) return
  throw new UnsupportedError(`${name} works in one process, and this is rank ${world.rank} of ${world.size}`, {
    hint: 'Start it alone, without launch, torchrun, srun or mpirun; docs/many-gpus.md says what several ranks can do.',
  })
}
