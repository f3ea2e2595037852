/** One file: into a `.part` beside its place, resumed by ranges, hashed on the way, renamed when it is right. */
import { constants } from 'node:fs'
import { type FileHandle, open, readdir, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { makeFolder, publishFile } from '../data/files.js'
import { ChecksumError, DiskFullError, fileError } from '../errors.js'
import { TransientError } from '../http/failure.js'
import type { HubClient } from './client.js'
import { isExpected, type RemoteFile, startHash } from './files.js'
import { leastBytes, type Received } from './request.js'

/**
 * Named after the content it will have, so that what was begun for another revision is never continued.
 * @param target where the finished file will lie.
 */
export function partPath(target: string, { hash }: RemoteFile): string {
  return `${target}.${hash.slice(hash.indexOf(':') + 1).slice(0, 12)}.part`
}

/**
 * @param onBytes told how many bytes of the file are there.
 * @throws {ChecksumError} when the content is not the announced one; nothing of it stays.
 */
export async function downloadFile(
  client: HubClient,
  url: string,
  file: RemoteFile,
  target: string,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const path = partPath(target, file)
  try {
    await makeFolder(dirname(target))
    let result = await fillPart(client, url, file, path, onBytes)
    if (!result.right && result.inherited > 0) {
      // A crash may have left a part whose tail never reached the disk: only a download from the start accuses the server.
      await rm(path, { force: true })
      result = await fillPart(client, url, file, path, onBytes)
    }
    if (!result.right) throw wrongContent(client.repo, file)
  } catch (error) {
    const isEmpty = (await stat(path).catch(() => undefined))?.size === 0
    if (isEmpty || error instanceof ChecksumError) await rm(path, { force: true })
    throw onDisk(error, path)
  }
  await publishFile(path, target)
  await removeParts(target)
}

/** Downloads what the part lacks; says whether the whole is what was published, and how much an earlier run had left. */
async function fillPart(
  client: HubClient,
  url: string,
  file: RemoteFile,
  path: string,
  onBytes: (bytes: number) => void,
): Promise<{ right: boolean; inherited: number }> {
  const part = await Part.open(path, file)
  const inherited = part.bytes
  const what = `${client.repo}: ${file.path}`
  let reached = part.bytes
  const advanced = (): boolean => {
    const before = reached
    reached = Math.max(reached, part.bytes)
    return reached >= before + leastBytes || reached === file.size
  }
  try {
    onBytes(part.bytes)
    await client.retrying(async () => {
      if (part.bytes === file.size) return
      // `identity`: ranges count bytes of the file, not of a compressed form of it.
      const headers = { 'accept-encoding': 'identity' }
      const range = part.bytes > 0 ? { range: `bytes=${part.bytes}-` } : undefined
      let response = await client.request(url, what, { ...headers, ...range }, range && 416)
      if (response.status === 416) {
        // What is here is not the beginning of what is there.
        await response.cancel()
        await part.restart()
        response = await client.request(url, what, headers)
      }
      const { first, total } = extent(response)
      if (total !== undefined && total !== file.size) {
        await response.cancel()
        throw wrongSize(client.repo, file, total)
      }
      // A server that does not know ranges sends everything, from the start.
      if (first !== part.bytes) await part.restart()
      if (first !== part.bytes) {
        await response.cancel()
        throw new TransientError(`${what}: the server sent another range than asked for`)
      }
      for await (const chunk of response.body()) {
        if (part.bytes + chunk.length > file.size) throw wrongSize(client.repo, file, part.bytes + chunk.length)
        await part.append(chunk)
        onBytes(part.bytes)
      }
      if (part.bytes < file.size) throw new TransientError(`${what}: the connection ended early`)
    }, advanced)
    await part.sync()
    return { right: part.isRight(), inherited }
  } finally {
    await part.close()
  }
}

/** First byte of the body and length of the whole file, as far as the server tells. */
function extent({ status, headers }: Received): { first: number; total: number | undefined } {
  const length = headers.get('content-length')
  if (status !== 206) return { first: 0, total: length === null ? undefined : Number(length) }
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get('content-range') ?? '')
  return { first: Number(range?.[1] ?? -1), total: range && range[2] !== '*' ? Number(range[2]) : undefined }
}

/** The unfinished file and the running hash of what is in it. */
class Part {
  readonly path: string
  bytes = 0
  readonly #file: RemoteFile
  readonly #handle: FileHandle
  #hash: ReturnType<typeof startHash>

  private constructor(path: string, file: RemoteFile, handle: FileHandle) {
    this.path = path
    this.#file = file
    this.#handle = handle
    this.#hash = startHash(file)
  }

  static async open(path: string, file: RemoteFile): Promise<Part> {
    const { O_RDWR, O_CREAT, O_APPEND, O_NOFOLLOW } = constants
    // O_NOFOLLOW: a link planted under this name would send the bytes elsewhere. (Windows has no such flag.)
    const part = new Part(path, file, await open(path, O_RDWR | O_CREAT | O_APPEND | (O_NOFOLLOW ?? 0)))
    try {
      await part.#inherit()
      return part
    } catch (error) {
      await part.close()
      throw error
    }
  }

  /** Takes over what an earlier run left. */
  async #inherit(): Promise<void> {
    for await (const chunk of this.#handle.createReadStream({ start: 0, autoClose: false })) {
      this.#hash.update(chunk as Buffer)
      this.bytes += (chunk as Buffer).length
    }
    if (this.bytes > this.#file.size) await this.restart()
  }

  async append(chunk: Uint8Array): Promise<void> {
    const written = this.#handle.appendFile(chunk)
    // While the disk works.
    this.#hash.update(chunk)
    await written
    this.bytes += chunk.length
  }

  async restart(): Promise<void> {
    await this.#handle.truncate(0)
    this.#hash = startHash(this.#file)
    this.bytes = 0
  }

  /** Once, when everything is there. */
  isRight(): boolean {
    return isExpected(this.#hash, this.#file)
  }

  async sync(): Promise<void> {
    await this.#handle.sync()
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

/** Parts of this file that were begun for other revisions. */
async function removeParts(target: string): Promise<void> {
  const name = basename(target)
  for (const entry of await readdir(dirname(target))) {
    const isPart = entry.startsWith(`${name}.`) && /^\.[0-9a-f]{12}\.part$/.test(entry.slice(name.length))
    if (isPart) await rm(join(dirname(target), entry), { force: true })
  }
}

export const diskFullHint = 'Free some space and run the same command again: it goes on where it stopped.'

function onDisk(error: unknown, path: string): unknown {
  const named = fileError(error, 'Writing', path)
  if (!(named instanceof DiskFullError)) return named
  return new DiskFullError(named.message, { detail: named.detail, hint: diskFullHint, cause: error })
}

const advice = 'Run the command again; if it happens again, the server or a proxy on the way alters files.'

function wrongContent(repo: string, { path, hash }: RemoteFile): ChecksumError {
  const detail = { repo, path, expected: hash }
  return new ChecksumError(`${repo}: ${path} has another hash than published; it was removed`, { detail, hint: advice })
}

function wrongSize(repo: string, { path, size }: RemoteFile, received: number): ChecksumError {
  const detail = { repo, path, expected: size, received }
  const message = `${repo}: ${path} has ${received} bytes or more instead of the published ${size}; it was removed`
  return new ChecksumError(message, { detail, hint: advice })
}
