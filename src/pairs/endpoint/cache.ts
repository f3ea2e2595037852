/**
 * Paid replies on disk, one file each, named by what was asked. A run that is killed asks for nothing twice, and one that
 * is repeated costs nothing.
 */
import { createHash } from 'node:crypto'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { removeTemporaries, writeFileAtomic } from '../../data/files.js'
import { fileError } from '../../errors.js'

export const cachedReply = z.strictObject({
  content: z.string(),
  finishReason: z.string().nullable(),
  promptTokens: z.number().int().nonnegative(),
  completionTokens: z.number().int().nonnegative(),
})

export type CachedReply = z.infer<typeof cachedReply>

export class RequestCache {
  private constructor(readonly folder: string) {}

  static async open(folder: string): Promise<RequestCache> {
    await mkdir(folder, { recursive: true }).catch((error) => {
      throw fileError(error, 'Making', folder)
    })
    await removeTemporaries(folder)
    return new RequestCache(folder)
  }

  /** The reply to a request; a file that is damaged counts as missing and is written again. */
  async read(key: string): Promise<CachedReply | undefined> {
    const path = this.#path(key)
    const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw fileError(error, 'Reading', path)
    })
    if (text === undefined) return undefined
    try {
      return cachedReply.parse(JSON.parse(text))
    } catch {
      return undefined
    }
  }

  async write(key: string, reply: CachedReply): Promise<void> {
    await writeFileAtomic(this.#path(key), `${JSON.stringify(reply)}\n`)
  }

  #path(key: string): string {
    return join(this.folder, `${key}.json`)
  }
}

/** Names a request by its content. */
export function requestKey(content: unknown): string {
  return createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 32)
}
