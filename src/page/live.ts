/** A page that is kept up to date while work goes on, without holding the work up. */
import { setImmediate } from 'node:timers/promises'
import { writeFileAtomic } from '../data/files.js'

/** Between two versions of the page, and how many times longer than drawing it: long work draws for 5 % of its time. */
const pause = { leastMs: 4000, times: 20 }

/** How often a browser reads such a page again, in seconds. */
export const refreshSeconds = 5

/** The page as text. */
type Draw = () => Promise<string>

export class LivePage {
  readonly path: string
  #writing: Promise<void> | undefined
  #due = 0

  constructor(path: string) {
    this.path = path
  }

  /** Draws the page soon, unless that was done a moment ago. A failure is for `write` to meet: the work does not end for it. */
  update(draw: Draw): void {
    if (this.#writing || performance.now() < this.#due) return
    // Behind the call of the engine that follows: it computes meanwhile.
    this.#writing = setImmediate()
      .then(() => this.#write(draw))
      .catch(() => {})
      .finally(() => {
        this.#writing = undefined
      })
  }

  /** Draws the page now. */
  async write(draw: Draw): Promise<void> {
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
    this.#due = performance.now() + Math.max(pause.leastMs, pause.times * (performance.now() - started))
    await writeFileAtomic(this.path, page)
  }
}
