/** What a run says of its steps: metrics.jsonl, and the same for people, TensorBoard's events and report.html. */
import { join } from 'node:path'
import { z } from 'zod'
import { JsonlAppender } from '../data/files.js'
import { readJsonl } from '../data/jsonl.js'
import type { ModelInfo } from '../engine/engine.js'
import { LivePage } from '../page/live.js'
import { describeMachine, peakHostBytes } from './machine.js'
import type { LogRow } from './metrics.js'
import type { Standing } from './page/run-page.js'
import { runFiles } from './run-folder.js'
import type { TrainConfig } from './settings.js'
import { EventFile } from './tensorboard.js'

/** What the page says beside the metrics. */
export interface RunAbout {
  config: TrainConfig
  model: ModelInfo
  totalSteps: number
  /** As `TrainOptions.again`. */
  again?: string
  /** What is known to speak against its data. */
  warnings?: readonly string[]
}

/** metrics.jsonl is the record; what else there is follows from its rows, so that a resumed run shows no step twice. */
export class RunLog {
  readonly #metrics: JsonlAppender
  readonly #events: EventFile | undefined
  readonly #page: LivePage | undefined
  readonly #about: RunAbout
  /** Every row of the run, those before a resume too. */
  readonly #rows: LogRow[]

  private constructor(
    metrics: JsonlAppender,
    { events, page }: { events?: EventFile; page?: LivePage },
    rows: LogRow[],
    about: RunAbout,
  ) {
    this.#metrics = metrics
    this.#events = events
    this.#page = page
    this.#rows = rows
    this.#about = about
  }

  /** @param keepBytes of metrics.jsonl, those up to the checkpoint; 0 = start anew. */
  static async open(about: RunAbout, keepBytes: number): Promise<RunLog> {
    const { output, tensorboard, report } = about.config
    const path = join(output, runFiles.metrics)
    const metrics = await JsonlAppender.open(path, keepBytes)
    let events: EventFile | undefined
    try {
      const rows = await readMetrics(path)
      events = tensorboard ? await EventFile.open(join(output, runFiles.tensorboard), rows) : undefined
      const log = new RunLog(
        metrics,
        { events, page: report ? new LivePage(join(output, runFiles.page)) : undefined },
        rows,
        about,
      )
      // To load the code of the charts is no part of drawing, which says when the next page is due.
      if (report) await import('./page/run-page.js')
      await log.show({ state: 'running' })
      return log
    } catch (error) {
      await metrics.close()
      await events?.close()
      throw error
    }
  }

  /** Length of metrics.jsonl. */
  get bytes(): number {
    return this.#metrics.bytes
  }

  /** Adds a row with its time, `wall_time`: seconds since 1970. */
  async append(measured: LogRow): Promise<void> {
    const row = { ...measured, wall_time: Date.now() / 1000 }
    await this.#metrics.append(row)
    await this.#events?.append(row)
    this.#rows.push(row)
    const draw = () => this.#draw({ state: 'running' })
    if (measured.eval_loss === undefined) this.#page?.update(draw)
    else this.#page?.updateSooner(draw)
  }

  /** Writes the page as it is now. */
  async show(how: Omit<Standing, 'step' | 'totalSteps'>): Promise<void> {
    await this.#page?.write(() => this.#draw(how))
    if (how.state === 'running') this.#page?.keepAlive(() => this.#draw(how))
  }

  async #draw(given: Omit<Standing, 'step' | 'totalSteps'>): Promise<string> {
    const how = { warnings: this.#about.warnings, ...given }
    // The code of the charts is large, and a run without a page does not need it.
    const { renderRunPage } = await import('./page/run-page.js')
    const { config, model, totalSteps, again } = this.#about
    const step = this.#rows.at(-1)?.step ?? 0
    const on = { model, machine: describeMachine(), peakHostBytes: peakHostBytes() }
    return renderRunPage({ config, on, rows: this.#rows, standing: { ...how, step, totalSteps }, again })
  }

  /** Waits until metrics.jsonl is on the disk. */
  async sync(): Promise<void> {
    await this.#metrics.sync()
  }

  async close(): Promise<void> {
    this.#page?.rest()
    try {
      await this.#metrics.close()
    } finally {
      await this.#events?.close()
    }
  }
}

/** The rows of a metrics.jsonl, in their order. */
export async function readMetrics(path: string): Promise<LogRow[]> {
  const rows: LogRow[] = []
  for await (const { record } of readJsonl(path, z.custom<LogRow>())) rows.push(record)
  return rows
}
