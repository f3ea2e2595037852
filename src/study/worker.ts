/** One worker of `study --jobs`: it takes steps until none is left, and stops when the process that started it is gone. */
import { join } from 'node:path'
import { FireError, reasonOf } from '../errors.js'
import type { Progress } from '../stage/index.js'
import { studyFiles } from './files.js'
import type { WorkerMessage, WorkerTask } from './jobs.js'
import { loadStudy } from './load.js'
import { work } from './run.js'

const { root, threads, shard } = JSON.parse(process.argv[2]) as WorkerTask
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
  await work(await loadStudy(join(root, studyFiles.study)), root, { signal: stop.signal, progress, threads, shard })
} catch (error) {
  say({ error: { code: error instanceof FireError ? error.code : 'ERR_FIRE_INTERNAL', message: reasonOf(error) } })
  process.exitCode = 1
} finally {
  if (process.connected) process.disconnect()
}
