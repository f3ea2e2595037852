/** What passes when one waits: failures worth another attempt, and how long to wait before it. */
import { setTimeout as sleep } from 'node:timers/promises'
// Back-off with jitter and cancellation, from the author of most of npm's promise tools.
import pRetry from 'p-retry'
import { isAbort, throwIfAborted } from '../errors.js'
import { TransientError } from './failure.js'

/** How failures that may pass are retried. */
export interface RetrySettings {
  /** How many attempts without any progress are forgiven. */
  retries: number
  /** Before the first; doubles each time, up to a minute. A longer `Retry-After` is obeyed, up to five minutes. */
  delayMs: number
}

export interface RetryOptions extends RetrySettings {
  signal?: AbortSignal
  onRetry?: (message: string) => void
  /** Whether the attempt that just failed moved on: it is then not counted. */
  progressed?: () => boolean
  /** The error after too many attempts; `message` is that of the last one and their number. */
  giveUp: (message: string, last: TransientError) => Error
}

/** Longest wait a server may ask for; rate limits are usually counted over five minutes or less. */
const longestWaitMs = 300_000

/** The error of a status that may be another one a little later; `undefined` for any other. `said` stands behind it. */
export function passingStatus(
  { status, headers }: { status: number; headers: Pick<Headers, 'get'> },
  what: string,
  said = '',
): TransientError | undefined {
  if (status !== 408 && status !== 429 && status < 500) return undefined
  const message = status === 429 ? 'too many requests' : `the server answered ${status}`
  const asked = retryAfter(headers.get('retry-after'))
  const longer = asked > longestWaitMs ? ` (it asks for a pause of ${Math.ceil(asked / 1000)} s)` : ''
  const retryAfterMs = Math.min(asked, longestWaitMs)
  return new TransientError(`${what}: ${message}${said}${longer}`, { status }, { retryAfterMs })
}

/** Milliseconds of a `Retry-After` header, which is in seconds or a date; 0 when there is none. */
function retryAfter(header: string | null): number {
  if (!header) return 0
  const seconds = Number(header)
  const wait = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - Date.now()
  return Math.max(0, wait || 0)
}

/** Runs `task` until it succeeds, fails for good, or fails too often in a row. */
export function retrying<T>(task: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { retries, delayMs, signal, onRetry, progressed = () => false, giveUp } = options
  return pRetry(task, {
    retries,
    minTimeout: delayMs,
    maxTimeout: 60_000,
    randomize: true,
    signal,
    shouldRetry: ({ error }) => error instanceof TransientError,
    shouldConsumeRetry: () => !progressed(),
    onFailedAttempt: async ({ error, retriesLeft }) => {
      if (!(error instanceof TransientError) || retriesLeft === 0) return
      const { message, retryAfterMs } = error
      onRetry?.(`${message}; trying again${retryAfterMs > 0 ? ` in ${Math.ceil(retryAfterMs / 1000)} s` : ''}`)
      await sleep(retryAfterMs, undefined, { signal })
    },
  }).catch((error) => {
    if (isAbort(error, signal)) throwIfAborted(signal)
    throw error instanceof TransientError ? giveUp(`${error.message} (${retries + 1} attempts)`, error) : error
  })
}
