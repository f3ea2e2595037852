/** Several workers on one folder, each a process of its own with its share of the threads. */
import { fork } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { InternalError } from '../errors.js'
import { alone } from '../ranks/ranks.js'
import { seatOf } from '../ranks/seat.js'
import type { Study } from './load.js'
import type { Shard, StudyRank, WorkOptions } from './run.js'

/** What a worker is told. */
export interface WorkerTask {
  root: string
  /** With its threads. */
  study: Omit<Study, 'locate'>
  shard?: Shard
  rank?: StudyRank
}

/** What a worker says: lines for the person who waits, and in the end why it stopped, if it did not just end. */
export type WorkerMessage = { log: string } | { error: { code: string; message: string } }

/**
 * Runs the study of a folder in so many processes until nothing is left to do. A signal stops them in order, and they stop by
 * themselves when this process is gone.
 * @returns errors that ended a worker, such as a full disk.
 */
export async function runWorkers(
  { locate: _, ...study }: Study,
  root: string,
  { jobs, threads, signal, progress, shard, rank }: WorkOptions & { jobs: number; threads?: number },
): Promise<{ code: string; message: string }[]> {
  const { threads: own } = await seatOf({ device: 'cpu', threads: 0 }, { ...alone, ...rank })
  const each = threads || Math.max(1, Math.floor((own || availableParallelism()) / jobs))
  const task: WorkerTask = {
    root,
    study: { ...study, base: { ...study.base, threads: each } },
    shard,
    rank,
  }
  const path = fileURLToPath(new URL('./worker.js', import.meta.url))
  const ends = Array.from({ length: jobs }, async () => {
    // Signals of the terminal are this process's to handle.
    const child = fork(path, { detached: true, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    child.send(task)
    const errors: { code: string; message: string }[] = []
    const stop = (): void => void (child.connected && child.disconnect())
    child.on('message', (message: WorkerMessage) => {
      if ('log' in message) progress?.log(message.log)
      else errors.push(message.error)
    })
    signal?.addEventListener('abort', stop)
    const [code, killedBy] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.on('error', reject)
      child.on('exit', (...end) => resolve(end))
    })
    signal?.removeEventListener('abort', stop)
    if (code !== 0 && errors.length === 0 && !signal?.aborted) {
      const { code: name } = InternalError
      errors.push({
        code: name,
        message: `A worker ended with ${killedBy ?? `exit code ${code}`}; run the same command again`,
      })
    }
    return errors
  })
  return (await Promise.all(ends)).flat()
}
