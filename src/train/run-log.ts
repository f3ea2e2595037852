/** What a run says of its steps: metrics.jsonl and ranks.jsonl, and the same for people, TensorBoard's events and report.html. */
import { join } from 'node:path'
import { z } from 'zod'
import { JsonlAppender } from '../data/files.js'
import { readJsonl } from '../data/jsonl.js'
import type { ModelInfo } from '../engine/engine.js'
import { LivePage } from '../page/live.js'
import { describeMachine, peakHostBytes } from './machine.js'
import type { LogRow, RankRow } from './metrics.js'
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
  /** How many processes take its steps together; default 1. */
  ranks?: number
}

/** Lengths of the files up to a checkpoint, in bytes. */
export interface Kept {
  metricsBytes: number
  ranksBytes: number
}

/** So many of the last steps does the page speak of where it compares ranks. */
const comparedSteps = 50

/** metrics.jsonl is the record; what else there is follows from its rows, so that a resumed run shows no step twice. */
export class RunLog {
  readonly #metrics: JsonlAppender
  /** Where several ranks take the steps, or have taken some. */
  readonly #ranks: JsonlAppender | undefined
  readonly #events: EventFile | undefined
  readonly #page: LivePage | undefined
  readonly #about: RunAbout
  /** Every row of the run, those before a resume too. */
  readonly #rows: LogRow[]
  /** Of the last steps that several ranks took. */
  #byRank: RankRow[][] = []

  private constructor(
    files: { metrics: JsonlAppender; ranks?: JsonlAppender; events?: EventFile; page?: LivePage },
    rows: LogRow[],
    about: RunAbout,
  ) {
    this.#metrics = files.metrics
    this.#ranks = files.ranks
    this.#events = files.events
    this.#page = files.page
    this.#rows = rows
    this.#about = about
  }

  /** @param kept of its files; nothing = start anew. */
  static async open(about: RunAbout, kept: Kept = { metricsBytes: 0, ranksBytes: 0 }): Promise<RunLog> {
    const { output, tensorboard, report } = about.config
    const { ranks: size = 1 } = about
    const path = join(output, runFiles.metrics)
    const metrics = await JsonlAppender.open(path, kept.metricsBytes)
    let ranks: JsonlAppender | undefined
    let events: EventFile | undefined
    try {
      const isByRank = size > 1 || kept.ranksBytes > 0
      ranks = isByRank ? await JsonlAppender.open(join(output, runFiles.ranks), kept.ranksBytes) : undefined
      const rows = await readMetrics(path)
      events = tensorboard ? await EventFile.open(join(output, runFiles.tensorboard), rows) : undefined
      const page = report ? new LivePage(join(output, runFiles.page)) : undefined
      const log = new RunLog({ metrics, ranks, events, page }, rows, about)
      // To load the code of the charts is no part of drawing, which says when the next page is due.
      if (report) await import('./page/run-page.js')
      await log.show({ state: 'running' })
      return log
    } catch (error) {
      await metrics.close()
      await ranks?.close()
      await events?.close()
      throw error
    }
  }

  /** Lengths of the files as they are. */
  get kept(): Kept {
    return { metricsBytes: this.#metrics.bytes, ranksBytes: this.#ranks?.bytes ?? 0 }
  }

  /**
   * Adds a row with its time, `wall_time`: seconds since 1970.
   * @param byRank what each rank says of the step; that of one alone is in the row already.
   */
  async append(measured: LogRow, byRank: readonly RankRow[] = []): Promise<void> {
    const row = { ...measured, wall_time: Date.now() / 1000 }
    await this.#metrics.append(row)
    if (byRank.length > 1) {
      for (const each of byRank) await this.#ranks?.append(each)
      this.#byRank = [...this.#byRank.slice(1 - comparedSteps), [...byRank]]
    }
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
    return renderRunPage({
      ...{ config, on, again },
      rows: this.#rows,
      byRank: this.#byRank,
      standing: { ...how, step, totalSteps },
    })
  }

  /** Waits until the rows are on the disk. */
  async sync(): Promise<void> {
    await this.#metrics.sync()
    await this.#ranks?.sync()
  }

  async close(): Promise<void> {
    this.#page?.rest()
    try {
      await this.#metrics.close()
      await this.#ranks?.close()
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
