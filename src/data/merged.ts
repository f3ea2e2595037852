/** `fire-train.merge.json` of a merged model: which adapter is in it. Loaders of models pass it over. */
import { join } from 'node:path'
import { z } from 'zod'
import { CheckpointError } from '../errors.js'
import { hashModel, mergeRecord, readTextIfThere, writeJson } from './files.js'

const mergedFrom = z.object({
  /** As `hashModel` gives it. */
  adapterSha256: z.string().regex(/^[0-9a-f]{64}$/),
})

/** What a merged model was made from. */
export type MergedFrom = z.output<typeof mergedFrom>

const pathIn = (folder: string): string => join(folder, mergeRecord)

export function writeMergedFrom(folder: string, from: MergedFrom): Promise<void> {
  return writeJson(pathIn(folder), from)
}

/** `undefined` where nothing says that the model is a merged one. @throws {CheckpointError} when the file is no such record. */
export async function readMergedFrom(folder: string): Promise<MergedFrom | undefined> {
  const path = pathIn(folder)
  const text = await readTextIfThere(path)
  if (text === undefined) return undefined
  try {
    return mergedFrom.parse(JSON.parse(text))
  } catch (cause) {
    throw new CheckpointError(`${path} does not say what the model was merged from`, {
      detail: { path },
      hint: 'Merge again with `fire-train merge`, which writes it.',
      cause,
    })
  }
}

/**
 * An adapter on top of a model that it was merged into would count twice.
 * @throws {CheckpointError} when the record of the model has the hash of the adapter.
 */
export async function refuseMerged(model: string, adapter: string): Promise<void> {
  const from = await readMergedFrom(model)
  if (from === undefined || from.adapterSha256 !== (await hashModel(adapter))) return
  throw new CheckpointError(`${adapter} is merged into ${model} already: it would be applied twice`, {
    detail: { adapter, model },
    hint: 'Leave the adapter out, or name the model that it was trained on.',
  })
}
