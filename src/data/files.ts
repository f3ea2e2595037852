/** Files: writes that survive a crash (a reader sees the old file or the whole new one, never a part), hashes, reads. */
import { createHash, randomBytes } from 'node:crypto'
import { constants, createReadStream } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, readFile, readlink, realpath, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve, sep } from 'node:path'
import { exchange } from '../engine/exchange.js'
import { asFileError, FileError, fileError } from '../errors.js'
import { toJson } from '../secrets.js'
import { standingOf, thisOwner } from './owner.js'

// Not blocking: a pipe that nobody reads is an error and no wait.
const { O_WRONLY, O_APPEND, O_CREAT, O_NONBLOCK } = constants

/** Marks files and folders that are being written. */
const temporaryPrefix = '.tmp-'

/** Behind the name of what was moved away to make place, and is moved back when nothing took it. */
const replacedSuffix = '.old'

const temporaryName = /^\.tmp-(.+)-([0-9a-f]+\.[0-9a-f]+\.\d+\.\d+)\.[0-9a-f]{8}(\.old)?$/

function temporaryFor(path: string): string {
  const name = `${temporaryPrefix}${basename(path)}-${thisOwner()}.${randomBytes(4).toString('hex')}`
  return join(dirname(path), name)
}

/**
 * Temporary file, fsync, rename, fsync of the folder. Missing parent folders are made; a link stays one, what it leads to is
 * replaced.
 * @throws {FileError} for what is no file, such as a folder or a device.
 */
export async function writeFileAtomic(path: string, data: string | Uint8Array): Promise<void> {
  const target = await followLinks(path)
  await refuseOtherKind(target, 'file')
  const temporary = temporaryFor(target)
  try {
    await makeFolder(dirname(target))
    await writeSynced(temporary, data)
    await rename(temporary, target)
    await syncFolder(dirname(target))
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {})
    throw fileError(error, 'Writing', path)
  }
}

/** A value as JSON that people can read, atomically. */
export function writeJson(path: string, value: unknown): Promise<void> {
  return writeFileAtomic(path, `${toJson(value, 2)}\n`)
}

/** The same for a folder: `fill` writes into a temporary one that then takes the place of `path`, old content and all. */
export async function writeFolderAtomic(path: string, fill: (temporary: string) => Promise<void>): Promise<void> {
  const target = await followLinks(path)
  await refuseOtherKind(target, 'folder')
  const temporary = temporaryFor(target)
  try {
    await makeFolder(temporary)
    await fill(temporary)
    await syncTree(temporary)
    await replaceFolder(temporary, target)
  } catch (error) {
    throw fileError(error, 'Writing', path)
  } finally {
    await rm(temporary, { recursive: true, force: true }).catch(() => {})
  }
}

/** Where names cannot be exchanged in one step, one whole copy is always there, and `removeTemporaries` brings it back. */
async function replaceFolder(temporary: string, target: string): Promise<void> {
  const isThere = (await stat(target).catch(ignoreMissing)) !== undefined
  if (!isThere || !exchange(temporary, target)) {
    const replaced = `${temporary}${replacedSuffix}`
    if (isThere) await rename(target, replaced)
    try {
      await rename(temporary, target)
    } catch (error) {
      if (isThere) await rename(replaced, target)
      throw error
    }
    await syncFolder(dirname(target))
    await rm(replaced, { recursive: true, force: true })
  }
  await syncFolder(dirname(target))
}

/** Deletes a folder; half of one is never found under its name. */
export async function removeFolder(path: string): Promise<void> {
  const temporary = temporaryFor(path)
  try {
    await rename(path, temporary)
    await rm(temporary, { recursive: true, force: true })
  } catch (error) {
    throw fileError(error, 'Deleting', path)
  }
}

/** Gives a finished file that lies beside it the name `path`; the caller has synced its content. */
export async function publishFile(finished: string, path: string): Promise<void> {
  try {
    const target = await followLinks(path)
    await rename(finished, target)
    await syncFolder(dirname(target))
  } catch (error) {
    throw fileError(error, 'Writing', path)
  }
}

/**
 * Deletes what interrupted writes left in a folder. What a process still writes stays, and so does for a day what a process of
 * another machine may still write. A folder that was moved away and not replaced gets its name back.
 */
export async function removeTemporaries(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const [, target, owner, replaced] = temporaryName.exec(name) ?? []
    const path = join(folder, name)
    if (owner === undefined || !(await isAbandoned(path, owner))) continue
    try {
      const isLost = replaced !== undefined && (await stat(join(folder, target)).catch(ignoreMissing)) === undefined
      await (isLost ? rename(path, join(folder, target)) : rm(path, { recursive: true, force: true }))
    } catch (error) {
      // What another user left is not ours to delete, and another sweeper may have been here first.
      if (['EACCES', 'EPERM', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) continue
      throw fileError(error, 'Deleting', path)
    }
  }
}

async function isAbandoned(path: string, owner: string): Promise<boolean> {
  const standing = standingOf(owner)
  if (standing !== 'unknown') return standing === 'gone'
  const about = await stat(path).catch(ignoreMissing)
  return about !== undefined && Date.now() - about.mtimeMs > 86_400_000
}

/** What a path names when links are followed, whether there is something or not. */
export async function followLinks(path: string, steps = 40): Promise<string> {
  const link = await readlink(path).catch(() => undefined)
  if (link === undefined) return path
  if (steps === 0) throw new FileError(`${path}: its links lead in a circle`, { detail: { path } })
  const folder = await realpath(dirname(path)).catch(asFileError('Reading', path))
  return followLinks(resolve(folder, link), steps - 1)
}

/**
 * Makes a folder and its parents where they are missing; resolves with the outermost that was. (Node's own recursive call never
 * returns below /proc.)
 */
export async function makeFolder(path: string): Promise<string | undefined> {
  const about = await stat(path).catch(ignoreMissing)
  if (about?.isDirectory()) return undefined
  // Fails in the system's own words.
  if (about) await readdir(path)
  const parent = dirname(path)
  const made = parent === path ? undefined : await makeFolder(parent)
  await mkdir(path).catch((error) => {
    if (error.code !== 'EEXIST') throw error
  })
  return made ?? path
}

/** Nothing but a file may be replaced by a file, and by a folder nothing but a folder: least of all a device. */
export async function refuseOtherKind(path: string, wanted: 'file' | 'folder'): Promise<void> {
  const about = await stat(path).catch(ignoreMissing).catch(asFileError('Writing', path))
  if (about === undefined || (wanted === 'file' ? about.isFile() : about.isDirectory())) return
  const kind = about.isDirectory() ? 'folder' : about.isFile() ? 'file' : 'device, pipe or socket'
  throw new FileError(`${path} is a ${kind}; the output is a ${wanted}`, {
    detail: { path },
    hint: 'Name another output.',
  })
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
      await makeFolder(dirname(path))
      file = await open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK)
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
    const line = `${toJson(record)}\n`
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

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/** The text of a file; `undefined` where there is none. */
export async function readTextIfThere(path: string, action = 'Reading'): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(ignoreMissing).catch(asFileError(action, path))
}

/** Whether a path is the folder or lies in it; both may be relative. */
export const isWithin = (path: string, folder: string): boolean =>
  `${resolve(path)}${sep}`.startsWith(`${resolve(folder)}${sep}`)

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

/** SHA-256 of the names and contents of the files that decide what a model computes; reads all of them. */
export async function hashModel(folder: string): Promise<string> {
  const hash = createHash('sha256')
  for (const name of await decisiveFiles(folder)) hash.update(`${name}\0${await sha256File(join(folder, name))}\0`)
  return hash.digest('hex')
}

/** By name. A link counts as what it leads to: caches of models are full of them. */
async function decisiveFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(asFileError('Reading', folder))
  const names = entries
    .filter((entry) => !entry.isDirectory() && decisive.test(entry.name) && entry.name !== mergeRecord)
    .map(({ name }) => name)
  return names.sort((a, b) => (a < b ? -1 : 1))
}

/** Bytes of a large file that its mark is made of: so many at both ends, and in places evenly between. */
const marked = { ends: 2 ** 16, places: 256, bytes: 2 ** 12 }

/** Marks of earlier versions were of the ends alone, where a merged model may be as it was. */
const markBegins = '2-'
export const isEarlierMark = (mark: string | null | undefined): boolean =>
  typeof mark === 'string' && !mark.startsWith(markBegins)

/** What of a model's or adapter's folder decides its answers. */
const decisive = /\.(safetensors|json|jinja|txt|model)$/

/** In the folder of a merged model, what it was made from: the same weights may be merged again, and the record written anew. */
export const mergeRecord = 'fire-train.merge.json'

/**
 * Tells a model or adapter from another at the same place without reading gigabytes: SHA-256 of its files' names, sizes, first and
 * last 64 KiB and 256 places of 4 KiB between. Weights that were trained or merged again differ nearly everywhere; what differs in a
 * few bytes only may go unseen.
 */
export async function markFolder(folder: string): Promise<string> {
  const hash = createHash('sha256')
  for (const name of await decisiveFiles(folder)) {
    const path = join(folder, name)
    // Without waiting for a writer, should it be a named pipe.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(asFileError('Reading', path))
    const info = await file.stat()
    if (!info.isFile()) throw new FileError(`Reading ${path} failed: it is no regular file`, { detail: { path } })
    const { size } = info
    hash.update(`${name}\0${size}\0`)
    for (const { start, length } of markedParts(size)) {
      const part = Buffer.alloc(length)
      await file.read(part, 0, length, start)
      hash.update(part)
    }
  }
  return markBegins + hash.digest('hex')
}

function markedParts(size: number): { start: number; length: number }[] {
  const { ends, places, bytes } = marked
  if (size <= 2 * ends + places * bytes) return [{ start: 0, length: size }]
  const between = Array.from({ length: places }, (_, place) => ({
    start: Math.round(ends + ((size - 2 * ends - bytes) * place) / (places - 1)),
    length: bytes,
  }))
  return [{ start: 0, length: ends }, ...between, { start: size - ends, length: ends }]
}
