/** Content hashes of files and folders; a large file is read again only when its size, times or inode changed. */
import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { sha256File } from '../data/files.js'
import { asFileError, FileError, FireError, throwIfAborted } from '../errors.js'

/** Hashes of large files by path, with the marks that tell whether a file was touched. */
export const knownHashes = z.record(z.string(), z.strictObject({ mark: z.string(), sha256: z.string() }))

/** What `knownHashes` reads. */
export type KnownHashes = z.output<typeof knownHashes>

/** Below this, reading is as cheap as remembering for the next run. */
const remembered = 2 ** 24

/** Content hashes, each computed once while its file is not touched. */
export class Hashes {
  readonly #known: KnownHashes
  /** What was looked up: the part of the memory worth keeping. */
  readonly used: KnownHashes = {}
  /** Of this run: several stages look at the same files. */
  readonly #seen: KnownHashes = {}
  readonly #signal: AbortSignal | undefined

  constructor(known: KnownHashes, signal?: AbortSignal) {
    this.#known = known
    this.#signal = signal
  }

  /**
   * Of a file its SHA-256; of a folder that of its files' names and hashes, hidden ones left out.
   * @throws {FileError} when there is no such thing.
   */
  async of(path: string): Promise<string> {
    throwIfAborted(this.#signal)
    const about = await stat(path, { bigint: true }).catch(asFileError('Reading', path))
    if (about.isDirectory()) return this.#ofFolder(path)
    if (!about.isFile()) throw new FileError(`${path} is a pipe or device, not a plain file`)
    const mark = [about.size, about.mtimeNs, about.ctimeNs, about.ino].join(' ')
    const known = this.#seen[path] ?? this.#known[path]
    const sha256 = known?.mark === mark ? known.sha256 : await sha256File(path)
    this.#seen[path] = { mark, sha256 }
    if (about.size >= remembered) this.used[path] = this.#seen[path]
    return sha256
  }

  /** null where there is no such thing, or none that can be read. */
  async ofAny(path: string): Promise<string | null> {
    return this.of(path).catch((error) => {
      if (error instanceof FireError) return null
      throw error
    })
  }

  async #ofFolder(folder: string): Promise<string> {
    const hash = createHash('sha256')
    for (const name of (await readdir(folder)).sort()) {
      if (!name.startsWith('.')) hash.update(`${name}\0${await this.of(join(folder, name))}\n`)
    }
    return hash.digest('hex')
  }
}
