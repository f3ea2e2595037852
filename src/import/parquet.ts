/** Parquet files as rows, one row group at a time. */
import { Worker } from 'node:worker_threads'
import { fileError } from '../errors.js'
import type { Row } from './draft.js'
import { damaged } from './text-file.js'

/** For one row group; the largest that are read take seconds. */
const longestGroup = 50_000

/** Of the thread, in MiB; images lie outside of it. */
const heap = 768

type Message =
  | { rowStart: number; values: Record<string, unknown>[] }
  | { done: true }
  | { failed: string; code?: string }

/** The rows of a parquet file. 64-bit numbers that JavaScript cannot hold become their digits. */
export async function* readParquet(path: string): AsyncGenerator<Row> {
  const worker = new Worker(new URL('./parquet-thread.mjs', import.meta.url), {
    workerData: { path },
    resourceLimits: { maxOldGenerationSizeMb: heap },
  })
  // An error event without a listener would end the process; the exit that follows is what is waited for.
  let failure: Error | undefined
  worker.on('error', (error) => {
    failure = error
  })
  try {
    for (;;) {
      const message = await next(worker, () => failure?.message)
      if ('done' in message) return
      if ('failed' in message) throw refusal(path, message)
      for (const [at, value] of message.values.entries()) {
        yield { file: path, line: message.rowStart + at + 1, index: message.rowStart + at, value }
      }
    }
  } finally {
    await worker.terminate()
  }
}

function next(worker: Worker, failure: () => string | undefined): Promise<Message> {
  return new Promise((resolve) => {
    const settle = (message: Message): void => {
      clearTimeout(timer)
      worker.off('message', settle).off('exit', ended)
      resolve(message)
    }
    const ended = (): void => settle({ failed: failure() ?? 'its decoder ended' })
    const timer = setTimeout(() => settle({ failed: `nothing after ${longestGroup / 1000} seconds` }), longestGroup)
    worker.on('message', settle).on('exit', ended)
    worker.postMessage('next')
  })
}

function refusal(path: string, { failed, code }: { failed: string; code?: string }): Error {
  if (code !== undefined) return fileError(Object.assign(new Error(failed), { code }), 'Reading', path)
  const hint = failed.startsWith('a row group')
    ? 'Write it with smaller row groups, for instance row_group_size=100 in pyarrow.'
    : undefined
  return damaged(path, 1, `not a readable parquet file (${failed})`, undefined, hint)
}
