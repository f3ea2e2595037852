/** Adapters that a training run kept for a look only. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CheckpointError } from '../errors.js'

/** What training writes beside an adapter that taught nothing, or whose loss diverged: `{problem}`. */
export const problemFile = 'problem.json'

/** @throws {CheckpointError} with the problem, when the folder has one. */
export async function refuseUnfit(adapter: string): Promise<void> {
  const path = join(adapter, problemFile)
  const found = await readFile(path, 'utf8').catch(() => undefined)
  if (found === undefined) return
  throw new CheckpointError(`The adapter ${adapter} is not to be used: ${reasonIn(found)}`, {
    detail: { adapter },
    hint: `Train again with other settings (docs/training.md). To use it all the same, delete ${path}.`,
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
