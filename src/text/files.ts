/** Files of a model folder, which may be anything: they are read only when they are files, and of a sensible size. */
import { type Stats, statSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { asFileError, FileError, guarded, ModelError } from '../errors.js'

export type Json = Record<string, unknown>

/** The largest published tokenizer.json has half of it. A JSON text takes some twenty times its size in memory. */
const maxBytes = 64 * 2 ** 20

/**
 * The text of a file of a model folder.
 * @throws {FileError} when it cannot be read, is no regular file (a named pipe would never end) or too large.
 * @throws {ModelError} when it is a Git LFS pointer.
 */
export async function readModelFile(path: string): Promise<string> {
  const info = await stat(path).catch(asFileError('Reading', path))
  if (!info.isFile()) throw new FileError(`Reading ${path} failed: it is ${kindOf(info)}`, { detail: { path } })
  if (info.size > maxBytes) {
    throw new FileError(`${path} has ${info.size} bytes; at most ${maxBytes} are expected in such a file`, {
      detail: { path },
    })
  }
  const text = await readFile(path, 'utf8').catch(asFileError('Reading', path))
  if (text.startsWith('version https://git-lfs')) {
    throw new ModelError(`${path} is a Git LFS pointer, not the file itself`, {
      detail: { path },
      hint: 'Run "git lfs pull" in its folder, or download the model again with fire-train pull.',
    })
  }
  return text
}

/** Reads an object from a JSON file of a model folder. */
export async function readJson(path: string): Promise<Json> {
  const text = await readModelFile(path)
  const value: unknown = guarded(
    () => JSON.parse(text),
    (reason, cause) => new ModelError(`${path} is not JSON: ${reason}`, { detail: { path }, hint: copyAgain, cause }),
  )
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json
  throw new ModelError(`${path} holds no JSON object`, { detail: { path }, hint: copyAgain })
}

const copyAgain = 'Download the file again, or compare it with the published one.'

/** Whether there is something of that name, whatever it is. */
export function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined
}

function kindOf(info: Stats): string {
  if (info.isDirectory()) return 'a folder'
  if (info.isFIFO()) return 'a named pipe, not a file'
  return info.isSocket() ? 'a socket, not a file' : 'a device, not a file'
}
