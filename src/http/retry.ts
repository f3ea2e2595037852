/** What passes when one waits: failures worth another attempt, and how long to wait before it. */
import { setTimeout as sleep } from 'node:timers/promises'
// Back-off with jitter and cancellation, from the author of most of npm's promise tools.
import pRetry from 'p-retry'

export interface RetrySettings {
  /** How many attempts without any progress are forgiven. */
  retries: number
  /** Before the first; doubles each time, up to a minute. A longer `Retry-After` is obeyed. */
  delayMs: number
}

export interface RetryOptions extends RetrySettings {
  signal?: AbortSignal
  onRetry?: (message: string) => void
  /** Whether the attempt that just failed moved on: it is then not counted. */
  progressed?: () => boolean
}

/** Something that may go well the next time. */
export class TransientError extends Error {
  readonly retryAfterMs: number
  readonly detail: Record<string, unknown>

  constructor(message: string, detail: Record<string, unknown> = {}, retryAfterMs = 0, cause?: unknown) {
    super(message, { cause })
    this.detail = detail
    this.retryAfterMs = retryAfterMs
  }
}

/** Longest wait a server may ask for; rate limits are usually counted over five minutes or less. */
const longestWaitMs = 300_000

/** Codes of failures that pass: a server restarting, a cable, a name server that is busy. */
const passing = /^(ECONN\w+|EPIPE|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|EAI_AGAIN|UND_ERR_\w+)$/

/** Whether the system's code of a failed connection is one that passes. */
export function isPassing(systemCode: string | undefined): boolean {
  return passing.test(systemCode ?? '')
}

/** Whether a server that answers with this status may answer otherwise a little later. */
export function isTransientStatus(status: number): boolean {
  return status === 408 || status === 429 || status >= 500
}

/** Milliseconds of a `Retry-After` header, which is in seconds or a date; 0 when there is none. */
export function retryAfter(header: string | null): number {
  if (!header) return 0
  const seconds = Number(header)
  const wait = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - Date.now()
  return Math.max(0, wait || 0)
}

/**
 * Runs `task` until it succeeds, fails for good, or fails too often in a row.
 * @throws {TransientError} the last one, when there were too many.
 */
export function retrying<T>(task: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { retries, delayMs, signal, onRetry, progressed = () => false } = options
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
      onRetry?.(`${error.message}; trying again`)
      await sleep(Math.min(error.retryAfterMs, longestWaitMs), undefined, { signal })
    },
  })
}
