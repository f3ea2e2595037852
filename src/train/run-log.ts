/** What a run says of its steps: metrics.jsonl, and the same for people, TensorBoard's events and report.html. */
import { join } from 'node:path'
import { z } from 'zod'
import { JsonlAppender } from '../data/files.js'
import { readJsonl } from '../data/jsonl.js'
import type { MetricsRow } from './metrics.js'
import { runFiles } from './run-folder.js'
import type { TrainConfig } from './settings.js'
import { EventFile } from './tensorboard.js'

/** metrics.jsonl is the record; what else there is follows from its rows, so that a resumed run shows no step twice. */
export class RunLog {
  readonly #metrics: JsonlAppender
  readonly #events: EventFile | undefined
  /** Every row of the run, those before a resume too. */
  readonly rows: MetricsRow[]

  private constructor(metrics: JsonlAppender, events: EventFile | undefined, rows: MetricsRow[]) {
    this.#metrics = metrics
    this.#events = events
    this.rows = rows
  }

  /** @param keepBytes of metrics.jsonl, those up to the checkpoint; 0 = start anew. */
  static async open({ output, tensorboard }: TrainConfig, keepBytes: number): Promise<RunLog> {
    const path = join(output, runFiles.metrics)
    const metrics = await JsonlAppender.open(path, keepBytes)
    try {
      const rows = await readMetrics(path)
      const events = tensorboard ? await EventFile.open(join(output, runFiles.tensorboard), rows) : undefined
      return new RunLog(metrics, events, rows)
    } catch (error) {
      await metrics.close()
      throw error
    }
  }

  /** Length of metrics.jsonl. */
  get bytes(): number {
    return this.#metrics.bytes
  }

  /** Adds a row with its time, `wall_time`: seconds since 1970. */
  async append(measured: MetricsRow): Promise<void> {
    const row = { ...measured, wall_time: Date.now() / 1000 }
    await this.#metrics.append(row)
    await this.#events?.append(row)
    this.rows.push(row)
  }

  /** Waits until metrics.jsonl is on the disk. */
  async sync(): Promise<void> {
    await this.#metrics.sync()
  }

  async close(): Promise<void> {
    await this.#metrics.close()
    await this.#events?.close()
  }
}

/** The rows of a metrics.jsonl, in their order. */
export async function readMetrics(path: string): Promise<MetricsRow[]> {
  const rows: MetricsRow[] = []
  for await (const { record } of readJsonl(path, z.custom<MetricsRow>())) rows.push(record)
  return rows
}
