/** Progress for machines: one JSON object a line on stderr (docs/watching.md). */
import { StageClock } from '../stage/clock.js'
import type { Place, Progress } from '../stage/index.js'

/** A line as `--log json` writes it: the time, what happened, and the fields of that. */
export function logLine(event: string, fields: Record<string, unknown>): string {
  return `${JSON.stringify({ time: new Date().toISOString(), event, ...fields })}\n`
}

/** At most one line of progress a second, and always that of the last unit. */
const everyMs = 1000

export class JsonProgress implements Progress {
  readonly #write: (line: string) => void
  readonly #common: Record<string, unknown>
  #stage: StageClock | undefined
  #place: Place = { stage: '', part: '' }
  #written = 0

  /** @param common fields of every line. */
  constructor(write: (line: string) => void, common: Record<string, unknown> = {}) {
    this.#write = write
    this.#common = common
  }

  start(title: string, total: number, unit = 'items', done = 0, place: Place = { stage: title, part: '' }): void {
    this.end()
    this.#place = place
    this.#stage = new StageClock(title, total, unit, done)
    this.#written = 0
    this.#say('start', this.#stage)
  }

  update(done: number, status?: string, metrics?: Record<string, number>): void {
    const stage = this.#stage
    if (!stage) return
    stage.done = done
    if (status !== undefined) stage.status = status
    const now = performance.now()
    if (done !== stage.total && now - this.#written < everyMs) return
    this.#written = now
    const { rate, left, status: said } = stage
    this.#say('progress', stage, { rate, eta: left, ...(said !== '' && { status: said }), ...(metrics && { metrics }) })
  }

  evaluated(metrics: Record<string, number>): void {
    if (this.#stage) this.#say('evaluation', this.#stage, { metrics })
  }

  end(summary?: string): void {
    const stage = this.#stage
    if (!stage) return
    this.#stage = undefined
    const { seconds, rate } = stage
    this.#say('end', stage, { rate, seconds, summary: summary ?? stage.status })
  }

  log(message: string): void {
    const [, warning] = /^warning: (.*)$/s.exec(message) ?? []
    this.#write(
      logLine('log', {
        ...this.#common,
        level: warning === undefined ? 'info' : 'warning',
        message: warning ?? message,
      }),
    )
  }

  #say(event: string, { done, total, unit }: StageClock, more: Record<string, unknown> = {}): void {
    const { stage, part, number, count } = this.#place
    const place = { ...this.#common, stage, ...(part !== '' && { part }), stageNumber: number, stageCount: count }
    this.#write(logLine(event, { ...place, step: done, total: total === 0 ? null : total, unit, ...more }))
  }
}
