/**
 * Answers that cost something, on disk, one file each, named by what was asked. A run that is killed asks for nothing twice,
 * and one that is repeated costs nothing.
 */
import { join } from 'node:path'
import type { z } from 'zod'
import { asFileError } from '../errors.js'
import { toJson } from '../secrets.js'
import { makeFolder, readTextIfThere, removeTemporaries, sha256, writeFileAtomic } from './files.js'

export class AnswerCache<T> {
  constructor(
    readonly folder: string,
    readonly schema: z.ZodType<T>,
  ) {}

  /** The same with a folder that can be written to: what cannot be kept shall not be paid for. */
  static async open<T>(folder: string, schema: z.ZodType<T>): Promise<AnswerCache<T>> {
    await makeFolder(folder).catch(asFileError('Making', folder))
    await removeTemporaries(folder)
    return new AnswerCache(folder, schema)
  }

  /** The answer of a name; a file that is damaged counts as missing and is written again. */
  async read(key: string): Promise<T | undefined> {
    const text = await readTextIfThere(this.#path(key))
    try {
      return this.schema.parse(JSON.parse(text ?? ''))
    } catch {
      return undefined
    }
  }

  async write(key: string, answer: T): Promise<void> {
    await writeFileAtomic(this.#path(key), `${toJson(answer)}\n`)
  }

  #path(key: string): string {
    return join(this.folder, `${key}.json`)
  }
}

/** SHA-256 of a value's JSON in lower-case hex. */
export function hashOf(content: unknown): string {
  return sha256(JSON.stringify(content))
}
