/** The stages of a demo: shown while they run, timed for the report, named when one is interrupted. */
import { AbortedError } from '../errors.js'

/** Where progress goes: a bar, lines, or nothing. */
export interface DemoProgress {
  start(title: string, total: number, unit?: string): void
  update(done: number, status?: string): void
  end(summary?: string): void
  log(line: string): void
}

export type Update = (done: number, status?: string) => void

export class Stages {
  /** Finished stages with their wall time. */
  readonly done: { name: string; seconds: number }[] = []
  readonly #progress: DemoProgress
  readonly #signal: AbortSignal | undefined
  #current = ''

  constructor(progress: DemoProgress, signal: AbortSignal | undefined) {
    this.#progress = progress
    this.#signal = signal
  }

  /**
   * Runs one stage.
   * @param summarise says in a few words what came out.
   * @throws the signal's reason when it fires, at the next update.
   */
  async run<T>(
    name: string,
    units: { total: number; unit: string },
    work: (update: Update) => Promise<T>,
    summarise?: (result: T) => string,
  ): Promise<T> {
    const started = performance.now()
    this.#current = name
    this.#progress.start(name, units.total, units.unit)
    try {
      this.#signal?.throwIfAborted()
      const result = await work((done, status) => {
        this.#signal?.throwIfAborted()
        this.#progress.update(done, status)
      })
      this.done.push({ name, seconds: (performance.now() - started) / 1000 })
      this.#progress.end(summarise?.(result))
      return result
    } catch (error) {
      this.#progress.end(this.#signal?.aborted ? 'stopped' : 'failed')
      throw error
    }
  }

  /** What to throw for an error of the whole run: when the signal fired, one that says how far the demo came. */
  explain(error: unknown): unknown {
    if (!this.#signal?.aborted) return error
    const finished = this.done.map((stage) => stage.name)
    const where = finished.includes(this.#current) ? 'after' : 'during'
    return new AbortedError(`Stopped ${where} "${this.#current}"; finished: ${finished.join(', ') || 'nothing'}`, {
      detail: { stage: this.#current, finished },
      hint: 'What the finished stages wrote is complete. Run the demo again to start anew.',
      cause: error,
    })
  }
}
