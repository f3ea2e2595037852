/** One worker of `study --jobs`: it takes steps until none is left, and stops when the process that started it is gone. */
import { once } from 'node:events'
import { FireError, reasonOf } from '../errors.js'
import type { Progress } from '../stage/index.js'
import { ContentHashes } from './contents.js'
import { planStudy } from './graph.js'
import type { WorkerMessage, WorkerTask } from './jobs.js'
import { work } from './run.js'

const [task] = (await once(process, 'message')) as [WorkerTask]
const { root, study, shard, rank } = task
const stop = new AbortController()
process.on('disconnect', () => stop.abort())

/** A line a step: bars of several processes would overwrite each other. */
const progress: Progress = {
  start(title) {
    current = title
  },
  update() {},
  end(summary) {
    if (summary !== undefined) say({ log: `${current}: ${summary}` })
  },
  log: (line) => say({ log: line }),
}
let current = ''

function say(message: WorkerMessage): void {
  if (process.connected) process.send?.(message)
}

try {
  const { signal } = stop
  const plan = await planStudy({ ...study, locate: () => undefined }, root, await ContentHashes.open(root, signal))
  await work(plan, root, { signal, progress, shard, rank })
} catch (error) {
  say({ error: { code: error instanceof FireError ? error.code : 'ERR_FIRE_INTERNAL', message: reasonOf(error) } })
  process.exitCode = 1
} finally {
  if (process.connected) process.disconnect()
}
