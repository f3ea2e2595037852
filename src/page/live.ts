/** A page that is kept up to date while work goes on, without holding the work up. */
import { setImmediate } from 'node:timers/promises'
import { writeFileAtomic } from '../data/files.js'

/** Between two versions of the page, and how many times longer than drawing it: long work draws for 5 % of its time. */
const pause = { leastMs: 4000, times: 20 }

/** How often a browser reads such a page again, in seconds. */
export const refreshSeconds = 5

/** While the work goes on, the page is never older than this, however long a step takes. */
const beatMs = 60_000

/** For whoever reads a page that says it is running: after a kill nobody is left to say otherwise. */
export const aliveWords = (what: string): string =>
  `While ${what} goes on, this page is written anew at least every minute. Where the last time was more than 3 minutes ago, ${what} ` +
  'has most likely ended without saying so: it was killed, or the machine stopped.'

/** When a page was written. */
export const writtenNow = (): string => `last written ${new Date().toISOString().slice(0, 19).replace('T', ' ')} UTC`

/** The page as text. */
type Draw = () => Promise<string>

export class LivePage {
  readonly path: string
  #writing: Promise<void> | undefined
  #due = 0
  #dueSooner = 0
  #beat: NodeJS.Timeout | undefined

  constructor(path: string) {
    this.path = path
  }

  /** Draws the page soon, unless that was done a moment ago. A failure is for `write` to meet: the work does not end for it. */
  update(draw: Draw): void {
    if (performance.now() >= this.#due) this.#soon(draw)
  }

  /** For what comes rarely and is worth seeing, such as an evaluation: asks for no more than the least pause. */
  updateSooner(draw: Draw): void {
    if (performance.now() >= this.#dueSooner) this.#soon(draw)
  }

  /** Draws the page every minute until `write` or `rest`: a step may take longer than that. */
  keepAlive(draw: Draw): void {
    clearInterval(this.#beat)
    this.#beat = setInterval(() => this.#soon(draw), beatMs).unref()
  }

  /** Ends `keepAlive`. */
  rest(): void {
    clearInterval(this.#beat)
  }

  #soon(draw: Draw): void {
    if (this.#writing) return
    // Behind the call of the engine that follows: it computes meanwhile.
    this.#writing = setImmediate()
      .then(() => this.#write(draw))
      .catch(() => {})
      .finally(() => {
        this.#writing = undefined
      })
  }

  /** Draws the page now, and no more by itself. */
  async write(draw: Draw): Promise<void> {
    this.rest()
    await this.settle()
    await this.#write(draw)
  }

  /** Waits for the version that is being drawn. */
  async settle(): Promise<void> {
    await this.#writing
  }

  async #write(draw: Draw): Promise<void> {
    const started = performance.now()
    const page = await draw()
    const drawn = performance.now()
    this.#dueSooner = drawn + pause.leastMs
    this.#due = drawn + Math.max(pause.leastMs, pause.times * (drawn - started))
    await writeFileAtomic(this.path, page)
  }
}
