/** Stop strings: a text that comes in pieces, cut before the first of them. */

/** What may turn out to begin a stop string is held back until it is known, so that nothing is ever taken back. */
export class StopCutter {
  readonly #stops: readonly string[]
  #held = ''
  #stopped = false

  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  /** The next piece in, what is now certain out; nothing more once a stop string came. */
  push(text: string): string {
    if (this.#stopped) return ''
    this.#held += text
    const found = this.#stops.map((stop) => this.#held.indexOf(stop)).filter((at) => at >= 0)
    this.#stopped = found.length > 0
    const certain = this.#stopped ? Math.min(...found) : this.#held.length - this.#begun()
    const out = this.#held.slice(0, certain)
    this.#held = this.#stopped ? '' : this.#held.slice(certain)
    return out
  }

  /** What was held back, when the text ends. */
  end(): string {
    const out = this.#held
    this.#held = ''
    return out
  }

  /** Length of the longest end of the held text with which a stop string begins. */
  #begun(): number {
    const lengths = this.#stops.map((stop) => {
      let length = Math.min(stop.length - 1, this.#held.length)
      while (length > 0 && !this.#held.endsWith(stop.slice(0, length))) length -= 1
      return length
    })
    return Math.max(0, ...lengths)
  }
}
