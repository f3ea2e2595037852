/** Keeps report.html of a run up to date without holding the run up. */
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { writeFileAtomic } from '../../data/files.js'
import { runFiles } from '../run-folder.js'
import type { RunPageData } from './run-page.js'

/** Between two versions of the page, and how many times longer than drawing it: a long run draws for 2 % of its time. */
const pause = { leastMs: 4000, times: 50 }

export class LivePage {
  readonly #path: string
  #writing: Promise<void> | undefined
  #due = 0

  constructor(output: string) {
    this.#path = join(output, runFiles.page)
  }

  /** Draws the page soon, unless that was done a moment ago. A failure is for `write` to meet: the run does not end for it. */
  update(data: () => RunPageData): void {
    if (this.#writing || performance.now() < this.#due) return
    // Behind the call of the engine that follows: it computes meanwhile.
    this.#writing = setImmediate()
      .then(() => this.#draw(data()))
      .catch(() => {})
      .finally(() => {
        this.#writing = undefined
      })
  }

  /** Draws the page now. */
  async write(data: RunPageData): Promise<void> {
    await this.#writing
    await this.#draw(data)
  }

  async #draw(data: RunPageData): Promise<void> {
    // The charts' code is large, and a run without a page does not need it.
    const { renderRunPage } = await import('./run-page.js')
    const started = performance.now()
    const page = renderRunPage(data)
    this.#due = performance.now() + Math.max(pause.leastMs, pause.times * (performance.now() - started))
    await writeFileAtomic(this.#path, page)
  }
}
