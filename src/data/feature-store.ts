/** The feature store that settings ask for. */
import type { FeatureStore } from '../engine/engine.js'
import { version } from '../version.js'
import { hashModel, markFolder, sha256 } from './files.js'

/** As the stages have it. */
export interface FeatureStoreSettings {
  featureStore?: string | null
  /** MiB. */
  featureStoreSize?: number
}

/** By the mark of the folder: stages open the same model again and again, and weights are large. */
const hashes = new Map<string, string>()

/** What an engine is opened with; null where no store is asked for. Reads the whole model, once a process. */
export async function featureStore(
  model: string,
  { featureStore: folder, featureStoreSize = 4096 }: FeatureStoreSettings,
): Promise<FeatureStore | null> {
  if (!folder) return null
  const mark = await markFolder(model)
  const known = hashes.get(mark) ?? (await hashModel(model))
  hashes.set(mark, known)
  return { folder, key: sha256(`${version} ${known}`), maxBytes: featureStoreSize * 2 ** 20 }
}
