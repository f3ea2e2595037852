/** pipeline.json: which stages are done, from what, and what they left. Written whole, so a crash leaves the last state. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { writeJson } from '../data/files.js'
import { FileError, fileError } from '../errors.js'
import { knownHashes } from './hashes.js'

const stageState = z.strictObject({
  /** `running` until the outputs are complete: a stage found in this state was cut off. */
  state: z.enum(['running', 'done']),
  version: z.string(),
  /** SHA-256 of the settings, and of the names of those that name the inputs. */
  settings: z.string(),
  /** Content hashes of the inputs, in their order. */
  inputs: z.array(z.string()),
  /** Content hashes of files that the inputs name, by path; null where there was none. */
  named: z.record(z.string(), z.string().nullable()).default({}),
  /** Content hashes of the outputs, in their order. */
  outputs: z.array(z.string()),
  summary: z.string(),
  /** Wall time, that of interrupted runs included. */
  seconds: z.number().default(0),
  finished: z.string(),
})

const manifest = z.strictObject({
  format: z.literal(1),
  stages: z.record(z.string(), stageState),
  /** Hashes of large files with what tells that they are unchanged. */
  hashes: knownHashes,
})

export type StageState = z.output<typeof stageState>
export type Manifest = z.output<typeof manifest>

const fileName = 'pipeline.json'

/** @throws {FileError} when the file is there and is none of ours. */
export async function readManifest(output: string): Promise<Manifest> {
  const path = join(output, fileName)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { format: 1, stages: {}, hashes: {} }
    throw fileError(error, 'Reading', path)
  }
  try {
    return manifest.parse(JSON.parse(text))
  } catch (error) {
    throw new FileError(`${path} is not the record of a pipeline that this version knows`, {
      detail: { path },
      hint: 'Name another output, or delete this file: every stage then runs again.',
      cause: error,
    })
  }
}

export async function writeManifest(output: string, content: Manifest): Promise<void> {
  // In the order of the schema: the same bytes whether the run was interrupted or not.
  await writeJson(join(output, fileName), manifest.parse(content))
}
