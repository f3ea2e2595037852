/** A trained adapter and its base as one model folder that any loader of the family reads. */
import { copyFile, readdir } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { hashModel, ignoreMissing, makeFolder, writeFileAtomic, writeFolderAtomic } from '../data/files.js'
import { lockOutput } from '../data/lock.js'
import { refuseMerged, writeMergedFrom } from '../data/merged.js'
import { type CallOptions, type MergeStats, mergeWeights } from '../engine/engine.js'
import { asFileError, FileError, fileError } from '../errors.js'
import { readJson } from '../text/files.js'
import { llavaFiles, llavaNames } from './llava.js'

export interface MergeOptions extends CallOptions {
  /** Largest weight file, in bytes. */
  shardBytes?: number
  /**
   * Keep the tensor names and files of the base. Otherwise LlavaQwen2ForCausalLM (HuatuoGPT-Vision), which transformers and
   * vLLM do not know, is written as LlavaForConditionalGeneration.
   */
  keepLayout?: boolean
  /** Replace a model folder that is there. */
  overwrite?: boolean
}

/**
 * Writes weights, config, tokenizer and whatever else the base folder has beside its weights to `output`, and which adapter
 * is in it; the folder appears complete or not at all.
 * @throws {CheckpointError} when the adapter does not fit the model, or was merged into it before.
 * @throws {FileError} when `output` is there already; with `overwrite` when it is no model folder.
 * @throws {LockedError} when another merge writes to `output`.
 */
export async function mergeAdapter(
  model: string,
  adapter: string,
  output: string,
  { shardBytes = 5e9, keepLayout = false, overwrite = false, signal }: MergeOptions = {},
): Promise<MergeStats> {
  await using _lock = await lockOutput(output, 'whole folder', [model, adapter])
  const names = (await readdir(output).catch(ignoreMissing).catch(asFileError('Reading', output))) ?? []
  if (names.length > 0 && !overwrite) {
    throw new FileError(`${output} exists already`, { hint: 'Use --overwrite to replace it, or another folder.' })
  }
  if (names.length > 0 && !names.includes('config.json')) {
    throw new FileError(`${output} is no model folder, it has no config.json`, { hint: 'Name another folder.' })
  }
  await refuseMerged(model, adapter)
  const config = await readJson(join(model, 'config.json'))
  const convert = config.model_type === 'llava_qwen2' && !keepLayout
  let stats: MergeStats | undefined
  await writeFolderAtomic(output, async (folder) => {
    await copyCompanions(model, folder, !convert)
    if (convert) {
      for (const [name, text] of await llavaFiles(model, config)) await writeFileAtomic(join(folder, name), text)
    }
    const rename = convert ? llavaNames : []
    stats = await mergeWeights({ model, adapter, output: folder, shardBytes, rename }, { signal })
    await writeMergedFrom(folder, { adapterSha256: await hashModel(adapter) })
  })
  return stats as MergeStats
}

const companion =
  /^((video_)?(pre)?processor_config|config|generation_config|chat_template|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|merges)\.(json|txt|jinja|model)$|^(LICEN[CS]E|NOTICE)/i

/** What a model folder has beside its weights, and the config of a vision tower in a folder of its own. */
async function copyCompanions(from: string, to: string, withTower: boolean): Promise<void> {
  const entries = await readdir(from, { recursive: true, withFileTypes: true }).catch(
    asFileError('Reading the folder', from),
  )
  for (const entry of entries) {
    const folder = relative(from, entry.parentPath)
    const wanted = folder === '' || (withTower && folder.startsWith('vit'))
    if (entry.isFile() && wanted && companion.test(entry.name)) {
      await copyInto(join(entry.parentPath, entry.name), join(to, folder), entry.name)
    }
  }
}

async function copyInto(source: string, folder: string, name: string): Promise<void> {
  try {
    await makeFolder(folder)
    await copyFile(source, join(folder, name))
  } catch (error) {
    throw fileError(error, 'Copying', source)
  }
}
