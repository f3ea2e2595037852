/** Work of several ranks: the first that fails ends it for all. */
import { AbortedError, RankError } from '../errors.js'
import type { Joined } from './join.js'
import { theEnd } from './ranks.js'

/** Work that does not heed the failure of another rank is left behind after so many milliseconds. */
export const heedMs = 5000

/** An error of the way between ranks often follows from the failure of another one, which is then heard of in this time. */
const followMs = 1000

/**
 * Does the work of this rank and waits until the others have done theirs. When it fails they are told; when one of them fails, this
 * ends with that failure.
 * @throws what the work throws. @throws {RankError} of the rank that failed first.
 */
export async function together<T>(ranks: Joined, work: () => Promise<T>): Promise<T> {
  const neglected = neglect(ranks.signal)
  try {
    const result = await Promise.race([work(), neglected.promise])
    ranks.signal.throwIfAborted()
    await ranks.gather(theEnd, null)
    return result
  } catch (error) {
    if (mayFollow(error)) await heard(ranks.signal, ranks.size === 1 ? 0 : followMs)
    const { aborted, reason } = ranks.signal
    const first = aborted && mayFollow(error) ? reason : error
    if (first instanceof AbortedError && ranks.isStopping) await ranks.gather(theEnd, null)
    else await ranks.fail(first)
    throw first
  } finally {
    neglected.cancel()
    await ranks.close()
  }
}

/** What every rank found out by itself is nobody's consequence. */
const mayFollow = (error: unknown): boolean =>
  error instanceof AbortedError || (error instanceof RankError && error.detail.onAllRanks !== true)

async function heard(signal: AbortSignal, ms: number): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

/** Rejects some time after the signal fired. */
function neglect(signal: AbortSignal): { promise: Promise<never>; cancel(): void } {
  let timer: NodeJS.Timeout | undefined
  let onAbort = (): void => {}
  const promise = new Promise<never>((_, reject) => {
    onAbort = () => {
      timer = setTimeout(() => reject(signal.reason), heedMs)
    }
  })
  signal.addEventListener('abort', onAbort)
  return {
    promise,
    cancel() {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
    },
  }
}
