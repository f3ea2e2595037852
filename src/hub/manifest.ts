/** `fire-train.pull.json`: what a folder was filled with, so that it can be pinned, resumed and checked without the hub. */
import { join } from 'node:path'
import { z } from 'zod'
import { readTextIfThere, writeJson } from '../data/files.js'
import { DataError } from '../errors.js'
import { isSafePath } from './files.js'

const manifestSchema = z.strictObject({
  repo: z.string().min(1),
  /** As asked for: a branch, a tag or a commit. */
  revision: z.string().min(1),
  /** What the revision was when it was first resolved. */
  commit: z.string().regex(/^[0-9a-f]{40}$/),
  /** Whether every file below is in place. */
  complete: z.boolean(),
  /** The patterns the files were chosen with; `null` = what a model folder needs. */
  include: z.array(z.string()).nullable(),
  files: z.array(
    z.strictObject({
      path: z.string().refine(isSafePath),
      size: z.number().int().nonnegative(),
      hash: z.string().regex(/^(sha256:[0-9a-f]{64}|git-sha1:[0-9a-f]{40})$/),
    }),
  ),
})

export type Manifest = z.output<typeof manifestSchema>

export function manifestPath(folder: string): string {
  return join(folder, 'fire-train.pull.json')
}

/** `undefined` where there is none. */
export async function readManifest(folder: string): Promise<Manifest | undefined> {
  const path = manifestPath(folder)
  const text = await readTextIfThere(path)
  if (text === undefined) return undefined
  try {
    return manifestSchema.parse(JSON.parse(text))
  } catch (cause) {
    const hint = 'Delete it and pull again: files that are right are kept.'
    throw new DataError(`${path} is not a manifest of fire-train pull`, { detail: { path }, hint, cause })
  }
}

export async function writeManifest(folder: string, manifest: Manifest): Promise<void> {
  await writeJson(manifestPath(folder), manifest)
}
