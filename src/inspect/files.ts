/** What a path stands for: a file of records, one document, or a folder of both. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { parse } from 'yaml'
import { asFileError, FileError } from '../errors.js'
import type { Inspection } from './report.js'

/** Folders of things that records refer to, and of what is kept for the next run. */
const passedOver = /^(images|masks|corrupted|cache|checkpoints|state|node_modules)$|\.cache$|^\./

const recordFile = /\.(jsonl|jsonl\.part)$/
const documentFile = /\.(json|yaml)$/

/** Below a folder that stages filled, nothing lies deeper. */
const deepest = 4

/**
 * The files of folders in the order of their names; a file stands for itself, each once. Folders of a model or an adapter are
 * one thing and stay folders.
 * @throws {FileError} when a path is not there, or a folder holds nothing that a stage wrote.
 */
export async function filesOf(paths: readonly string[]): Promise<string[]> {
  const found = new Set<string>()
  for (const path of paths) {
    const status = await stat(path).catch(asFileError('Reading', path))
    const files = status.isDirectory() ? await filesBelow(path, deepest) : [path]
    if (files.length === 0) {
      throw new FileError(`${path} holds no file that a stage wrote: no .jsonl, .json or .yaml`, { detail: { path } })
    }
    for (const file of files) found.add(file)
  }
  return [...found]
}

async function filesBelow(folder: string, depth: number): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(asFileError('Reading', folder))
  const names = entries.map(({ name }) => name)
  if (names.some((name) => name in modelFolders)) return [folder]
  const found: string[] = []
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name)
    if (passedOver.test(entry.name)) continue
    if (entry.isDirectory() && depth > 1) found.push(...(await filesBelow(path, depth - 1)))
    else if (entry.isFile() && (recordFile.test(entry.name) || documentFile.test(entry.name))) found.push(path)
  }
  return found
}

/** The file that tells such a folder, and what it is called. */
const modelFolders: Record<string, string> = { 'adapter_config.json': 'adapter', 'config.json': 'model' }

/** A file that is one JSON or YAML document has no more than this, by far. */
const largestDocument = 2 ** 24

/** A model's folder, or a file that is one document, such as import.report.json; undefined for JSON Lines. */
export async function readDocument(path: string): Promise<Inspection | undefined> {
  const status = await stat(path).catch(asFileError('Reading', path))
  if (status.isDirectory()) return readModelFolder(path)
  if (!status.isFile() || status.size > largestDocument || recordFile.test(path)) return undefined
  const bytes = await readFile(path).catch(asFileError('Reading', path))
  if (/\.(html|safetensors)$/.test(path)) return document(path, 'no records', [['bytes', status.size]])
  const text = bytes.toString('utf8').trim()
  const isYaml = path.endsWith('.yaml')
  if (!isYaml && (!text.startsWith('{') || (!path.endsWith('.json') && !/^\{\s*\n/.test(text)))) return undefined
  try {
    const value: unknown = isYaml ? parse(text, { logLevel: 'error' }) : JSON.parse(text)
    return document(path, isYaml ? 'settings' : 'document', [...flatten(value)])
  } catch {
    return undefined
  }
}

async function readModelFolder(path: string): Promise<Inspection> {
  const names = await readdir(path).catch(asFileError('Reading', path))
  const told = Object.keys(modelFolders).find((name) => names.includes(name)) as string
  const weights = names.filter((name) => name.endsWith('.safetensors'))
  let bytes = 0
  for (const name of weights)
    bytes += (await stat(join(path, name)).catch(asFileError('Reading', join(path, name)))).size
  const config = await readDocument(join(path, told))
  const facts: Inspection['facts'] = [
    ['weight files', weights.length],
    ['bytes of weights', bytes],
    ...(config?.facts ?? []),
  ]
  return document(path, modelFolders[told], facts)
}

/** What is not a list of records. */
export const document = (path: string, kind: string, facts: Inspection['facts']): Inspection => ({
  ...{ path, kind, records: 1, facts, distributions: [], spreads: [], examples: [], problems: [] },
})

/** Lists beyond this are counted instead of spelled out, and so are names beyond `mostFacts`. */
const listed = 10
const mostFacts = 200

function flatten(value: unknown): Inspection['facts'] {
  const facts: Inspection['facts'] = []
  const visit = (each: unknown, name: string): void => {
    if (Array.isArray(each) && each.length > listed) facts.push([name, `${each.length} entries`])
    else if (typeof each === 'object' && each !== null) {
      for (const [key, child] of Object.entries(each)) visit(child, name === '' ? key : `${name}.${key}`)
    } else facts.push([name, typeof each === 'number' ? each : String(each)])
  }
  visit(value, '')
  const more = facts.length - mostFacts
  return more > 0 ? [...facts.slice(0, mostFacts), ['(more)', more]] : facts
}
