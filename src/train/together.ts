/** How the ranks of a run end together. */
import type { Engine } from '../engine/engine.js'
import { AbortedError, RankError, reasonOf } from '../errors.js'
import type { Ranks } from '../ranks/ranks.js'

/** How long another rank's failure is waited for when the way to it broke, in milliseconds. */
const hearsay = 2000

/** Waits until the failure of another rank is known, for a short while. */
export async function heardOf({ signal }: Ranks): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, hearsay)
    signal.addEventListener('abort', done)
  })
}

/**
 * Tells the others of an error that is this rank's own; that it gave its work up for a stop of all is none. @returns what to end with here: that error, or the failure of another rank where
 * that is what ended this one.
 */
export async function endTogether(ranks: Ranks, error: unknown): Promise<unknown> {
  const { aborted, reason } = ranks.signal
  const isFollowing =
    (error instanceof RankError && error.detail.onAllRanks !== true) ||
    (error instanceof AbortedError && error.cause === reason)
  if (aborted && isFollowing) return reason
  if (error instanceof AbortedError && ranks.isStopping) return error
  await ranks.fail(error)
  return error
}

/** While it lasts, the failure of another rank ends what the engine waits for from it. */
export function tie({ signal }: Ranks, engine: Engine): Disposable {
  const end = (): void => engine.abortGroup(reasonOf(signal.reason))
  if (signal.aborted) end()
  else signal.addEventListener('abort', end)
  return { [Symbol.dispose]: () => signal.removeEventListener('abort', end) }
}
