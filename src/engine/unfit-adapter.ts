/** Adapters that a training run kept for a look only. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CheckpointError, FileError } from '../errors.js'

/** What training writes beside an adapter that taught nothing, or whose loss diverged: `{problem}`. */
export const problemFile = 'problem.json'

/**
 * @throws {CheckpointError} with the problem, when the folder has one.
 * @throws {FileError} for the folder of a run, which has adapters in it.
 */
export async function refuseUnfit(adapter: string): Promise<void> {
  refuseRun(adapter)
  const path = join(adapter, problemFile)
  const found = await readFile(path, 'utf8').catch(() => undefined)
  if (found === undefined) return
  throw new CheckpointError(`The adapter ${adapter} is not to be used: ${reasonIn(found)}`, {
    detail: { adapter },
    hint: `Train again with other settings (docs/training.md). To use it all the same, delete ${path}.`,
  })
}

function refuseRun(folder: string): void {
  const isAdapter = (path: string): boolean => existsSync(join(path, 'adapter_config.json'))
  if (isAdapter(folder)) return
  const inside = ['adapter', 'best'].map((name) => join(folder, name)).filter(isAdapter)
  if (inside.length === 0) return
  throw new FileError(`${folder} is no adapter; it holds ${inside.join(' and ')}`, {
    detail: { path: folder },
    hint: `Name ${inside.join(' or ')}.`,
  })
}

function reasonIn(text: string): string {
  try {
    const { problem } = JSON.parse(text)
    return String(problem)
  } catch {
    return `${problemFile} in it says so`
  }
}
