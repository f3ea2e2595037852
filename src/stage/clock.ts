/** How far a stage is, how fast it goes and how long it still takes. */
export class StageClock {
  readonly title: string
  /** 0 = unknown. */
  readonly total: number
  readonly unit: string
  readonly #started = performance.now()
  /** What an earlier run had done tells nothing of the speed of this one. */
  readonly before: number
  done: number
  status = ''

  constructor(title: string, total: number, unit: string, done: number) {
    this.title = title
    this.total = total
    this.unit = unit
    this.done = done
    this.before = done
  }

  /** Since the start, in seconds. */
  get seconds(): number {
    return (performance.now() - this.#started) / 1000
  }

  /** Units a second; null before the first. */
  get rate(): number | null {
    const done = this.done - this.before
    return done > 0 && this.seconds > 0 ? done / this.seconds : null
  }

  /** Seconds that are left at this rate; null where that is not known. */
  get left(): number | null {
    return this.rate === null || this.total === 0 ? null : (this.total - this.done) / this.rate
  }
}
