/** What of a folder is sent: an adapter, or a model with everything that loaders read. */
import { existsSync } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { pathToFileURL } from 'node:url'
import picomatch from 'picomatch'
import { refuseUnfit } from '../engine/unfit-adapter.js'
import { asFileError, DataError, FileError, guarded } from '../errors.js'
import { type LocalFile, modelFiles } from '../hub/index.js'
import { runFiles } from '../train/run-folder.js'

/** A folder that can be sent. */
export interface Shared {
  kind: 'adapter' | 'model'
  folder: string
  /** But for the card. */
  files: LocalFile[]
  /** Files that stay here, by name. */
  leftOut: string[]
}

const adapterFiles: readonly string[] = ['adapter_config.json', 'adapter_model.safetensors']

/**
 * @param path an adapter, a merged model, or the folder of a training run, of which the adapter is taken: the best one, if it has that.
 * @param baseModel what the configuration of an adapter is to name instead of a folder of this machine.
 * @throws {FileError} for any other folder. @throws {CheckpointError} for an adapter that is not to be used.
 */
export async function sharedFolder(path: string, baseModel: string): Promise<Shared> {
  const folder = resolve((await adapterOfRun(path)) ?? path)
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(
    asFileError('Reading the folder', folder),
  )
  const names = entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort()
  const has = (name: string): boolean => names.includes(name)
  const isAdapter = adapterFiles.every(has)
  if (!isAdapter && !(has('config.json') && names.some((name) => name.endsWith('.safetensors')))) {
    const stages = names.filter((name) => name.endsWith(`train/${runFiles.report}`)).map((name) => dirname(name))
    throw new FileError(`${folder} is neither an adapter nor a model folder`, {
      detail: { path: folder },
      hint:
        stages.length > 0
          ? `It holds training runs. Name one: ${stages.map((name) => join(path, name)).join(', ')}`
          : 'Name the folder adapter/ of a training run, or one that `fire-train merge` wrote.',
    })
  }
  const patterns = isAdapter ? adapterFiles : modelFiles.filter((pattern) => !pattern.includes('README'))
  const wanted = picomatch([...patterns, 'LICEN[CS]E*', 'NOTICE*'])
  const files: LocalFile[] = []
  if (isAdapter) await refuseUnfit(folder)
  for (const name of names.filter((each) => wanted(each))) {
    const file = join(folder, name)
    files.push(
      isAdapter && name === 'adapter_config.json'
        ? await namingBase(file, baseModel)
        : { path: name, size: (await stat(file)).size, content: pathToFileURL(file) },
    )
  }
  const leftOut = names.filter((name) => !wanted(name))
  return { kind: isAdapter ? 'adapter' : 'model', folder, files, leftOut }
}

/** What the stages behind a complete run take: the best adapter, where one is kept. */
async function adapterOfRun(path: string): Promise<string | undefined> {
  const report = join(path, runFiles.report)
  if (!existsSync(report)) return undefined
  const { best } = await readJson(report)
  return join(path, best ? runFiles.best : runFiles.adapter)
}

/** A folder of this machine is no base for others, and nobody else's business. */
async function namingBase(path: string, baseModel: string): Promise<LocalFile> {
  const config = await readJson(path)
  const content = Buffer.from(`${JSON.stringify({ ...config, base_model_name_or_path: baseModel }, null, 2)}\n`)
  return { path: 'adapter_config.json', size: content.length, content }
}

async function readJson(path: string): Promise<Record<string, unknown>> {
  const text = await readFile(path, 'utf8').catch(asFileError('Reading', path))
  return guarded(
    () => JSON.parse(text) as Record<string, unknown>,
    (reason, cause) => new DataError(`${path} is not JSON: ${reason}`, { cause }),
  )
}
