/** A variant's process, driven line by line. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { BenchError, throwIfAborted } from '../errors.js'
import type { Measured, ReadyMessage } from './protocol.js'

/** How much of what a process wrote to stderr is kept for its error message. */
const keptStderr = 2000

export class StepServer {
  readonly name: string
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>
  readonly #lines: AsyncIterator<string>
  readonly #signal: AbortSignal | undefined
  #stderr = ''
  #ended = false
  #failure: Error | undefined

  constructor(name: string, command: string[], signal?: AbortSignal) {
    this.name = name
    this.#signal = signal
    // A local folder is all that is read: no look-up in a model hub.
    const env = { ...process.env, HF_HUB_OFFLINE: '1' }
    this.#child = spawn(command[0], command.slice(1), { stdio: ['pipe', 'pipe', 'pipe'], signal, env })
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
    this.#child.on('error', (error) => {
      this.#failure = error
    })
    this.#child.on('close', () => {
      this.#ended = true
    })
    // Writing to a process that has gone is reported by the missing answer.
    this.#child.stdin.on('error', () => {})
    this.#child.stderr.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk).slice(-keptStderr)
    })
  }

  /**
   * The first line of the process, once it can take steps.
   * @throws {BenchError} with what it wrote to stderr when it ends instead.
   */
  async ready(): Promise<ReadyMessage> {
    return this.#answer<ReadyMessage>()
  }

  /** Runs one step. */
  async step<T extends Measured = Measured>(): Promise<T> {
    this.#child.stdin.write('step\n')
    return this.#answer<T>()
  }

  /** Lets the process end by itself, and waits for it. */
  async close(): Promise<void> {
    this.#child.stdin.end()
    if (!this.#ended) await once(this.#child, 'close').catch(() => {})
  }

  async #answer<T>(): Promise<T> {
    const { value, done } = await this.#lines.next()
    if (!done) return JSON.parse(value) as T
    if (!this.#ended) await once(this.#child, 'close').catch(() => {})
    throwIfAborted(this.#signal)
    const { exitCode, signalCode } = this.#child
    const how = this.#failure?.message ?? (signalCode ? `killed by ${signalCode}` : `exit code ${exitCode}`)
    const memory = signalCode === 'SIGKILL' ? 'The machine may have run out of memory.' : undefined
    throw new BenchError(`${this.name} ended before it answered (${how})\n${this.#stderr}`.trimEnd(), {
      hint: memory,
      detail: { variant: this.name, exitCode, signal: signalCode },
    })
  }
}
