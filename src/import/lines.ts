/** JSON Lines in large pieces: millions of records are not millions of system calls. */
import { type FileHandle, open } from 'node:fs/promises'
import { fileError } from '../errors.js'

const pieceLength = 2 ** 18

export class LineWriter {
  /** Records written so far. */
  count = 0
  readonly #path: string
  #file: FileHandle | undefined
  #pending = ''

  /** The file is made with the first record. */
  constructor(path: string) {
    this.#path = path
  }

  async write(record: unknown): Promise<void> {
    this.#pending += `${JSON.stringify(record)}\n`
    this.count += 1
    if (this.#pending.length >= pieceLength) await this.flush()
  }

  async flush(): Promise<void> {
    const text = this.#pending
    this.#pending = ''
    if (text === '') return
    try {
      this.#file ??= await open(this.#path, 'wx')
      await this.#file.appendFile(text)
    } catch (error) {
      throw fileError(error, 'Writing', this.#path)
    }
  }

  async close(): Promise<void> {
    try {
      await this.flush()
    } finally {
      await this[Symbol.asyncDispose]()
    }
  }

  /** What is left of it after an error: nothing more is written. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.close()
    this.#file = undefined
  }
}
