/** Several workers on one folder, each a process of its own with its share of the threads. */
import { fork } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { InternalError } from '../errors.js'
import type { World } from '../ranks/ranks.js'
import type { Study } from './load.js'
import type { Shard, WorkOptions } from './run.js'

/** What a worker is told. */
export interface WorkerTask {
  root: string
  /** With its threads. */
  study: Omit<Study, 'locate'>
  shard?: Shard
  /** Of the process that it works for. */
  world?: World
}

/** What a worker says: lines for the person who waits, and in the end why it stopped, if it did not just end. */
export type WorkerMessage = { log: string } | { error: { code: string; message: string } }

const worldIn = ({ rank, size, localRank }: World): World => ({ rank, size, localRank })

/**
 * Runs the study of a folder in so many processes until nothing is left to do. A signal stops them in order, and they stop by
 * themselves when this process is gone.
 * @returns errors that ended a worker, such as a full disk.
 */
export async function runWorkers(
  { locate: _, ...study }: Study,
  root: string,
  { jobs, threads, signal, progress, shard, ranks }: WorkOptions & { jobs: number; threads?: number },
): Promise<{ code: string; message: string }[]> {
  const each = threads || Math.max(1, Math.floor(availableParallelism() / jobs))
  const task: WorkerTask = {
    root,
    study: { ...study, base: { ...study.base, threads: each } },
    shard,
    world: ranks && worldIn(ranks),
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
