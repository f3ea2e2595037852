/** How a run is ended before its last step: at once, between two steps, or in the middle of one that takes too long. */
import { AbortedError, isAbort } from '../errors.js'
import type { Ranks } from '../ranks/ranks.js'

/** How long a stop waits for the step under way; then the step is given up, and done again by whoever resumes. */
const stopPatienceMs = 2000

/** The signals of a run, in one that ends native calls: the caller's own, a failure of another rank, a stop that has waited long enough. */
export class Patience {
  readonly signal: AbortSignal
  readonly #stop: AbortSignal | undefined
  /** What ends the run without a word more. */
  readonly #ends: AbortSignal
  readonly #over = new AbortController()
  #timer: NodeJS.Timeout | undefined

  constructor({ signal, stop }: { signal?: AbortSignal; stop?: AbortSignal }, ranks: Ranks) {
    this.#stop = stop
    this.#ends = signal ? AbortSignal.any([signal, ranks.signal]) : ranks.signal
    this.signal = AbortSignal.any([this.#ends, this.#over.signal])
    if (stop?.aborted) this.#wait()
    else stop?.addEventListener('abort', this.#wait)
  }

  /** Somebody asked this rank to stop. */
  get isStopping(): boolean {
    return this.#stop?.aborted ?? false
  }

  /**
   * The result of some work; `null` where a stop gave it up, or came before it began. What was given up leaves no trace that a resume
   * would miss.
   */
  async orGiveUp<T>(work: () => Promise<T>): Promise<T | null> {
    if (this.isStopping) return null
    try {
      return await work()
    } catch (error) {
      if (this.#ends.aborted || !isAbort(error, this.signal)) throw error
      return null
    }
  }

  readonly #wait = (): void => {
    this.#timer = setTimeout(
      () => this.#over.abort(new AbortedError('The step under way was given up')),
      stopPatienceMs,
    )
  };

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
    this.#stop?.removeEventListener('abort', this.#wait)
  }
}
