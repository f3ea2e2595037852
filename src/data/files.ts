/** Files: writes that survive a crash (a reader sees the old file or the whole new one, never a part), hashes, reads. */
import { createHash, randomUUID } from 'node:crypto'
import { constants, createReadStream } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { asFileError, FileError, fileError } from '../errors.js'

/** Marks files and folders that are being written; whatever is left with this prefix after a crash may be deleted. */
const temporaryPrefix = '.tmp-'

/** Temporary file, fsync, rename, fsync of the folder. Missing parent folders are made. */
export async function writeFileAtomic(path: string, data: string | Uint8Array): Promise<void> {
  const folder = dirname(path)
  const temporary = join(folder, `${temporaryPrefix}${basename(path)}-${randomUUID()}`)
  try {
    await mkdir(folder, { recursive: true })
    await writeSynced(temporary, data)
    await rename(temporary, path)
    await syncFolder(folder)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {})
    throw fileError(error, 'Writing', path)
  }
}

/** A value as JSON that people can read, atomically. */
export function writeJson(path: string, value: unknown): Promise<void> {
  return writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`)
}

/** The same for a folder: `fill` writes into a temporary one that then takes the place of `path`, old content and all. */
export async function writeFolderAtomic(path: string, fill: (temporary: string) => Promise<void>): Promise<void> {
  const parent = dirname(path)
  const temporary = join(parent, `${temporaryPrefix}${basename(path)}-${randomUUID()}`)
  const replaced = join(parent, `${temporaryPrefix}${basename(path)}-old-${randomUUID()}`)
  try {
    await mkdir(temporary, { recursive: true })
    await fill(temporary)
    await syncTree(temporary)
    await rename(path, replaced).catch(ignoreMissing)
    await rename(temporary, path)
    await syncFolder(parent)
    await rm(replaced, { recursive: true, force: true })
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {})
    throw fileError(error, 'Writing', path)
  }
}

/** Gives a finished file that lies beside it the name `path`; the caller has synced its content. */
export async function publishFile(finished: string, path: string): Promise<void> {
  try {
    await rename(finished, path)
    await syncFolder(dirname(path))
  } catch (error) {
    throw fileError(error, 'Writing', path)
  }
}

/** Deletes what interrupted writes left in a folder; with `of`, only what they left of that one file or folder. */
export async function removeTemporaries(folder: string, of?: string): Promise<void> {
  const isLeft = (name: string): boolean =>
    name.startsWith(temporaryPrefix) && (of === undefined || withoutToken(name) === `${temporaryPrefix}${of}`)
  for (const name of await readdir(folder).catch(() => [])) {
    if (isLeft(name)) await rm(join(folder, name), { recursive: true, force: true })
  }
}

function withoutToken(name: string): string {
  return name.replace(/(-old)?-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, '')
}

/** Appends one JSON object a line. `bytes` is the length of the file so far, so that a resume can cut it back. */
export class JsonlAppender {
  readonly path: string
  readonly #file: FileHandle
  #bytes: number

  private constructor(path: string, file: FileHandle, bytes: number) {
    this.path = path
    this.#file = file
    this.#bytes = bytes
  }

  /** Opens for appending after cutting the file to `keepBytes` (0 = start anew). */
  static async open(path: string, keepBytes = 0): Promise<JsonlAppender> {
    let file: FileHandle | undefined
    try {
      await mkdir(dirname(path), { recursive: true })
      file = await open(path, 'a')
      const { size } = await file.stat()
      if (size < keepBytes) throw new FileError(`${path} has ${size} bytes, expected at least ${keepBytes}`)
      if (size > keepBytes) await file.truncate(keepBytes)
      return new JsonlAppender(path, file, keepBytes)
    } catch (error) {
      await file?.close()
      throw fileError(error, 'Opening', path)
    }
  }

  /** Length of the file, what was appended included. */
  get bytes(): number {
    return this.#bytes
  }

  /** Adds one line. It is on the disk for certain only after `sync`. */
  async append(record: unknown): Promise<void> {
    const line = `${JSON.stringify(record)}\n`
    await this.#file.appendFile(line).catch(asFileError('Appending to', this.path))
    this.#bytes += Buffer.byteLength(line)
  }

  /** Waits until everything appended is on the disk. */
  async sync(): Promise<void> {
    await this.#file.sync().catch(asFileError('Writing', this.path))
  }

  /** Closes the file; call `sync` before where the lines must last. */
  async close(): Promise<void> {
    await this.#file.close()
  }
}

/** The text of a file; `undefined` where there is none. */
export async function readTextIfThere(path: string, action = 'Reading'): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(ignoreMissing).catch(asFileError(action, path))
}

/** SHA-256 as lower-case hex. */
export function sha256(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}

/** SHA-256 of a file as lower-case hex. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash('sha256')
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  } catch (error) {
    throw fileError(error, 'Reading', path)
  }
  return hash.digest('hex')
}

async function writeSynced(path: string, data: string | Uint8Array): Promise<void> {
  const file = await open(path, 'wx')
  try {
    await file.writeFile(data)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    await (entry.isDirectory() ? syncTree(path) : syncFolder(path))
  }
  await syncFolder(folder)
}

/** For `promise.catch`: that there is nothing at a path is no failure. */
export function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error
}

/** Deletes files and folders, those that are not there too. @throws {FileError} for one that cannot be deleted. */
export async function deleteAll(paths: readonly string[]): Promise<void> {
  for (const path of paths) await rm(path, { recursive: true, force: true }).catch(asFileError('Deleting', path))
}

/** Bytes read at both ends of a large file for its mark. */
const markedEnds = 2 ** 16

/** What of a model's or adapter's folder decides its answers. */
const decisive = /\.(safetensors|json|jinja|txt|model)$/

/**
 * Tells a model or adapter from another at the same place without reading gigabytes: SHA-256 of its files' names, sizes and
 * first and last 64 KiB. Weights that were trained again differ in their last bytes.
 */
export async function markFolder(folder: string): Promise<string> {
  const hash = createHash('sha256')
  const entries = await readdir(folder, { withFileTypes: true }).catch(asFileError('Reading', folder))
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    // A link counts as what it leads to: caches of models are full of them.
    if (entry.isDirectory() || !decisive.test(entry.name)) continue
    const path = join(folder, entry.name)
    // Without waiting for a writer, should it be a named pipe.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(asFileError('Reading', path))
    const info = await file.stat()
    if (!info.isFile()) throw new FileError(`Reading ${path} failed: it is no regular file`, { detail: { path } })
    const { size } = info
    const length = Math.min(size, markedEnds)
    const ends = Buffer.alloc(2 * length)
    await file.read(ends, 0, length, 0)
    await file.read(ends, length, length, size - length)
    hash.update(`${entry.name}\0${size}\0`).update(ends)
  }
  return hash.digest('hex')
}
