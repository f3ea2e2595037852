/** A rank's side of the connection to the store. */
import { connect, type Socket } from 'node:net'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { AbortedError, abortedBy, RankError, reasonOf, throwIfAborted } from '../errors.js'
import type { Meeting, Patience, Started } from './environment.js'
import { diedHint, type Failure, failureOf, type Identity, nameOf, rankError, silentHint } from './failure.js'
import { end, frame, type Message, messagesOf, mostBytes, write } from './frames.js'
import { introduce } from './handshake.js'
import { type Heartbeat, startHeartbeat } from './heartbeat.js'
import { type Ranks, theEnd } from './ranks.js'

export interface MemberOptions {
  started: Pick<Started, 'rank' | 'size'>
  meeting: Meeting
  secret: string
  patience: Patience
  /** Ends the waiting for the others. */
  signal?: AbortSignal
  /** Somebody asks all ranks to stop, as this signal would. */
  onStop?(signal: NodeJS.Signals, isUrgent: boolean): void
}

interface Waiting {
  what: string
  resolve(values: unknown[]): void
  reject(error: unknown): void
}

export class Member implements Ranks {
  readonly rank: number
  readonly size: number
  readonly #options: MemberOptions
  readonly #socket: Socket
  #heartbeat: Heartbeat
  /** That of the store once it has said so: each side beats as often as the other needs. */
  #silence: number
  readonly #controller = new AbortController()
  #waiting: Waiting[] = []
  /** Of the first that waits, in order of ranks, as far as they came. */
  #values: unknown[] = []
  /** Processes of all ranks, by rank, once they have met. */
  #identities: readonly Identity[] = []
  #onMeeting: () => void = () => {}
  #hasLeft = false
  #isStopping = false
  /** Another rank has given its work up for the stop. */
  #isEnding = false

  /** @throws {RankError} when the ranks do not all come, or this one is refused. @throws {AbortedError} */
  static async join(options: MemberOptions): Promise<Member> {
    const { socket, messages } = await reach(options)
    const member = new Member(options, socket)
    const { signal } = options
    const onAbort = (): void => member.#controller.abort(abortedBy(signal as AbortSignal))
    signal?.addEventListener('abort', onAbort)
    try {
      throwIfAborted(signal)
      await new Promise<void>((resolve, reject) => {
        member.#onMeeting = resolve
        member.signal.addEventListener('abort', () => reject(member.signal.reason))
        write(socket, frame({ join: { size: member.size, host: hostname(), pid: process.pid } }))
        void member.#listen(messages)
      })
      return member
    } catch (error) {
      await member.close()
      throw error
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  private constructor(options: MemberOptions, socket: Socket) {
    this.rank = options.started.rank
    this.size = options.started.size
    this.#options = options
    this.#socket = socket
    this.#silence = options.patience.silence
    this.#heartbeat = this.#beat()
  }

  #beat(): Heartbeat {
    const beat = frame({ beat: true })
    return startHeartbeat(
      this.#silence,
      () => [this.#socket],
      () => write(this.#socket, beat),
      () => this.#onSilent(),
    )
  }

  get isStopping(): boolean {
    return this.#isStopping
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  gather<T>(what: string, value: T): Promise<T[]> {
    const gathered = this.#gather(what, value)
    // Whoever computes meanwhile asks for it later; what went wrong is in `signal` already.
    gathered.catch(() => {})
    return gathered
  }

  async #gather<T>(what: string, value: T): Promise<T[]> {
    this.signal.throwIfAborted()
    if (this.#hasLeft)
      throw new RankError(`Rank ${this.rank} has left the others and cannot wait for them at '${what}'`)
    if (this.#isEnding && what !== theEnd) throw stoppedElsewhere()
    const bytes = frame({ gather: what, value })
    return await new Promise<T[]>((resolve, reject) => {
      this.#waiting.push({ what, resolve: resolve as Waiting['resolve'], reject })
      write(this.#socket, bytes)
    })
  }

  /** Asks every other rank to stop in order, as this signal would. */
  askToStop(signal: NodeJS.Signals): void {
    this.#isStopping = true
    write(this.#socket, frame({ stop: signal }))
  }

  async fail(error: unknown): Promise<void> {
    if (!this.signal.aborted) write(this.#socket, frame({ fail: failureOf(this.#identities[this.rank], error) }))
    await this.close()
  }

  async close(): Promise<void> {
    if (this.#hasLeft) return
    this.#hasLeft = true
    this.#heartbeat.stop()
    write(this.#socket, frame({ close: true }))
    await end(this.#socket)
  }

  async #listen(messages: AsyncGenerator<Message, void>): Promise<void> {
    try {
      for await (const message of messages) this.#take(message)
      this.#lose('died: its connection ended', diedHint)
    } catch (error) {
      this.#lose(`was dropped: ${reasonOf(error)}`)
    }
  }

  #take({ start, gathered, ending, failed, refused, stop, isUrgent, silence }: Message): void {
    if (gathered !== undefined) this.#takeValue(gathered)
    else if (typeof silence === 'number') this.#setSilence(silence)
    else if (failed) this.#abort(rankError(failed as Failure))
    else if (typeof stop === 'string') this.#onStop(stop as NodeJS.Signals, isUrgent === true)
    else if (ending) this.#endWork()
    else if (Array.isArray(start)) {
      this.#identities = start
      this.#onMeeting()
    } else if (refused) {
      this.#abort(new RankError(`Rank ${this.rank} was refused: ${refused}`, { detail: { rank: this.rank } }))
    }
  }

  /** A message holds the value of one rank. */
  #takeValue(value: unknown): void {
    this.#values.push(value)
    if (this.#values.length < this.size) return
    this.#waiting.shift()?.resolve(this.#values)
    this.#values = []
  }

  #onStop(signal: NodeJS.Signals, isUrgent: boolean): void {
    this.#isStopping = true
    this.#options.onStop?.(signal, isUrgent)
  }

  #endWork(): void {
    this.#isEnding = true
    const waiting = this.#waiting
    this.#waiting = waiting.filter(({ what }) => what === theEnd)
    for (const { what, reject } of waiting) if (what !== theEnd) reject(stoppedElsewhere())
  }

  #setSilence(silence: number): void {
    this.#silence = silence
    this.#heartbeat.stop()
    if (!this.#hasLeft) this.#heartbeat = this.#beat()
  }

  #onSilent(): void {
    this.#lose(`has been silent for ${this.#silence / 1000} s`, silentHint)
    this.#socket.destroy()
  }

  /** Whoever keeps the store is gone. */
  #lose(how: string, hint?: string): void {
    const { isOpen, host, port } = this.#options.meeting
    const [first] = this.#identities
    const name = isOpen ? 'The launcher' : first ? nameOf(first) : `Rank 0 (${host}:${port})`
    this.#abort(rankError({ rank: isOpen ? null : 0, message: `${name} ${how}`, code: RankError.code, hint }))
  }

  #abort(error: RankError): void {
    if (this.#hasLeft || this.signal.aborted) return
    this.#controller.abort(error)
    for (const { reject } of this.#waiting.splice(0)) reject(error)
  }
}

const stoppedElsewhere = (): AbortedError => new AbortedError('Another rank was asked to stop')

/** Until something answers, and between two tries. */
const [answerMs, firstPauseMs, longestPauseMs] = [10_000, 50, 1000]

/** A connection to the store, each side known to the other. Rank 0 may come later than the others. */
async function reach({ started: { rank }, meeting, secret, patience, signal }: MemberOptions) {
  const where = `${meeting.host}:${meeting.port}`
  const until = performance.now() + patience.joining
  for (let pause = firstPauseMs; ; pause = Math.min(2 * pause, longestPauseMs)) {
    throwIfAborted(signal)
    const answer = await call(meeting)
    let problem = String(answer)
    if (typeof answer === 'object') {
      let limit: number = mostBytes.stranger
      const messages = messagesOf(answer, () => limit)
      const receive = async (): Promise<Message | undefined> => (await messages.next()).value ?? undefined
      const timer = setTimeout(() => answer.destroy(), answerMs)
      try {
        const talk = { send: (message: Message) => write(answer, frame(message)), receive }
        const isKnown = await introduce(talk, secret, rank)
        if (isKnown) {
          limit = mostBytes.member
          return { socket: answer, messages }
        }
        problem = 'what listens there said nothing and ended the connection'
      } catch (error) {
        throw new RankError(`Rank ${rank} cannot join the others at ${where}: ${reasonOf(error)}`, { detail: { rank } })
      } finally {
        clearTimeout(timer)
        if (limit === mostBytes.stranger) answer.destroy()
      }
    }
    // One that lets go of whom it has not heard yet has too many of them for the moment.
    if (meeting.isOpen && typeof answer === 'string')
      throw new RankError(`The launcher is not there any more (${where}): ${problem}`)
    if (performance.now() + pause > until) {
      const keeper = meeting.isOpen ? 'launcher' : 'rank 0'
      throw new RankError(
        `Rank ${rank} found no ${keeper} at ${where} within ${patience.joining / 1000} s: ${problem}`,
        {
          detail: { rank: 0 },
          hint: 'Look at what rank 0 says itself. MASTER_ADDR must be its machine, and no firewall may be between; where machines start at different times, set FIRE_JOIN_TIMEOUT to more seconds.',
        },
      )
    }
    await sleep(pause)
  }
}

/** The connection, or why there is none. */
async function call({ host, port }: Meeting): Promise<Socket | string> {
  const socket = connect({ host, port, noDelay: true })
  const problem = await new Promise<string | undefined>((resolve) => {
    const timer = setTimeout(() => resolve('nothing answers'), answerMs)
    socket.once('connect', () => resolve(undefined))
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.once('close', () => clearTimeout(timer))
    socket.once('connect', () => clearTimeout(timer))
  })
  if (problem === undefined) return socket
  socket.destroy()
  return problem
}
