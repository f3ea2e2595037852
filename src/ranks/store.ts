/**
 * Where the ranks meet: the launcher or rank 0 listens, all ranks keep a connection to it. It brings values together, and tells all of
 * them of the first that fails, dies or falls silent.
 */
import { lookup } from 'node:dns/promises'
import { createServer, isIP, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { AbortedError, RankError, reasonOf, throwIfAborted } from '../errors.js'
import type { Patience } from './environment.js'
import { diedHint, type Failure, type Identity, lost, nameOf, silentHint } from './failure.js'
import { end, frame, type Message, messagesOf, mostBytes, write } from './frames.js'
import { examine } from './handshake.js'
import { type Heartbeat, startHeartbeat } from './heartbeat.js'
import { theEnd } from './ranks.js'
import { rankWords } from './same.js'

export interface StoreOptions {
  /** Of this machine; a name is looked up. */
  host: string
  /** 0: any that is free. */
  port: number
  /** Number of ranks. */
  size: number
  secret: string
  patience: Patience
  /** Who keeps the store, in messages: `rank 0`, `the launcher`. */
  keeper: string
  /** Ends the waiting for a name of `host` that is not known yet. */
  signal?: AbortSignal
  /** What a person should know and no rank is told: who was refused, and why. */
  onLog(line: string): void
  /** Once, at the first failure. */
  onFailure?(failure: Failure): void
}

/** A rank that came. */
export interface Peer extends Identity {
  socket: Socket
  /** It said that it goes. */
  hasLeft: boolean
  /** Gathers that it came to, without the end. */
  gathers: number
}

interface Gather {
  what: string
  /** The first that came. */
  first: Peer
  /** By rank, as all of them are told it. */
  values: Map<number, Buffer>
}

/** Who connects and proves nothing in this time is let go. */
const introductionMs = 10_000

/** Beyond the ranks themselves; more are let go unheard. */
const mostStrangers = 64

export class Store {
  readonly #options: StoreOptions
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #peers = new Map<number, Peer>()
  readonly #gathers = new Map<number, Gather>()
  readonly #refused: string[] = []
  readonly #heartbeat: Heartbeat
  /** From the first rank that comes. */
  #joining: NodeJS.Timeout | undefined
  #hasStarted = false
  /** Of a rank that ended before it came. */
  #absence: Failure | undefined
  #stop: Buffer | undefined
  /** A rank has given its work up for the stop: the end is all that is left. */
  #isEnding = false
  #failure: Failure | undefined
  #onEmpty: (() => void)[] = []

  /** @throws {RankError} when nothing can listen there. @throws {AbortedError} */
  static async open(options: StoreOptions): Promise<Store> {
    const server = createServer({ noDelay: true })
    try {
      const host = await addressOf(options)
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen({ host, port: options.port }, resolve)
      })
    } catch (error) {
      throw error instanceof AbortedError ? error : whyNotOpen(error as NodeJS.ErrnoException, options)
    }
    return new Store(server, options)
  }

  private constructor(server: Server, options: StoreOptions) {
    this.#server = server
    this.#options = options
    server.on('connection', (socket) => void this.#serve(socket))
    server.on('error', (error) => options.onLog(`the store of the ranks: ${error.message}`))
    const beat = frame({ beat: true })
    this.#heartbeat = startHeartbeat(
      options.patience.silence,
      () => this.#here.map(({ socket }) => socket),
      () => this.#tell(beat),
      (socket) => this.#onSilent(socket),
    )
  }

  get port(): number {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.port : this.#options.port
  }

  /** The first one, once there is one. */
  get failure(): Failure | undefined {
    return this.#failure
  }

  /** Every rank that came. */
  get peers(): readonly Peer[] {
    return [...this.#peers.values()]
  }

  get #ranks(): number[] {
    return Array.from({ length: this.#options.size }, (_, rank) => rank)
  }

  get #here(): Peer[] {
    return this.peers.filter(({ hasLeft, socket }) => !hasLeft && !socket.destroyed)
  }

  /** Asks every rank to stop, as the signal would: in order, or at once. */
  stop(signal: NodeJS.Signals, isUrgent: boolean): void {
    this.#stop = frame({ stop: signal, isUrgent })
    this.#tell(this.#stop)
  }

  /** A rank has ended in good order. Where it never came, and others do, they are told that it will not. */
  expectNoMore(failure: Failure): void {
    if (failure.rank === null || this.#peers.has(failure.rank)) return
    this.#absence ??= failure
    if (this.#peers.size > 0) this.fail(this.#absence)
  }

  /** Tells every rank why the work cannot be finished together. Only the first failure counts. */
  fail(failure: Failure): void {
    if (this.#failure) return
    this.#failure = failure
    clearTimeout(this.#joining)
    this.#tell(frame({ failed: failure }))
    this.#options.onFailure?.(failure)
    this.#noteEmpty()
  }

  /** Resolves when no rank is there any more, though they had met or failed. */
  async emptied(): Promise<void> {
    if (this.#isEmpty) return
    await new Promise<void>((resolve) => this.#onEmpty.push(resolve))
  }

  get #isEmpty(): boolean {
    return (this.#hasStarted || this.#failure !== undefined) && this.#here.length === 0
  }

  #noteEmpty(): void {
    if (this.#isEmpty) for (const resolve of this.#onEmpty.splice(0)) resolve()
  }

  async close(): Promise<void> {
    clearTimeout(this.#joining)
    this.#heartbeat.stop()
    const closed = new Promise((resolve) => this.#server.close(resolve))
    await Promise.all([...this.#sockets].map(end))
    await closed
  }

  #tell(bytes: Buffer): void {
    for (const { socket } of this.#here) write(socket, bytes)
  }

  /** One connection, from the first byte to the last. */
  async #serve(socket: Socket): Promise<void> {
    socket.on('error', () => {})
    if (this.#sockets.size > mostStrangers + this.#options.size) return void socket.destroy()
    this.#sockets.add(socket)
    const from = `${socket.remoteAddress}:${socket.remotePort}`
    let peer: Peer | undefined
    const timer = setTimeout(() => peer ?? socket.destroy(), introductionMs).unref()
    const messages = messagesOf(socket, () => (peer ? mostBytes.member : mostBytes.stranger))
    try {
      peer = await this.#admit(socket, messages)
      for await (const message of messages) this.#take(peer, message)
    } catch (error) {
      if (peer) this.fail(lost(peer, `was dropped: ${reasonOf(error)}`))
      else this.#refuse(`a connection from ${from} was refused: ${reasonOf(error)}`)
    }
    clearTimeout(timer)
    await messages.return()
    if (peer && !peer.hasLeft) this.fail(lost(peer, 'died: its connection ended', diedHint))
    await end(socket)
    this.#sockets.delete(socket)
    this.#noteEmpty()
  }

  #refuse(line: string): void {
    this.#options.onLog(line)
    if (this.#refused.length < 10) this.#refused.push(line)
  }

  /** @throws {RankError} when it is no rank of this run. */
  async #admit(socket: Socket, messages: AsyncGenerator<Message, void>): Promise<Peer> {
    const receive = async (): Promise<Message | undefined> => (await messages.next()).value ?? undefined
    const send = (message: Message): void => write(socket, frame(message))
    const rank = await examine({ send, receive }, this.#options.secret)
    const { host, pid, size } = ((await receive())?.join ?? {}) as Record<string, unknown>
    const peer: Peer = { rank, host: String(host), pid: Number(pid), socket, hasLeft: false, gathers: 0 }
    const there = this.#peers.get(rank)
    const problem =
      size !== this.#options.size || rank < 0 || rank >= this.#options.size
        ? `it is rank ${rank} of ${size}, and ${this.#options.keeper} waits for ${this.#options.size} ranks`
        : there && `rank ${rank} is there already: ${nameOf(there)}`
    if (problem) {
      send({ refused: problem })
      throw new RankError(problem)
    }
    this.#peers.set(rank, peer)
    // Both sides wait for the same time, whatever the environment of that rank says.
    send({ silence: this.#options.patience.silence })
    this.#joining ??= setTimeout(() => this.#onMissing(), this.#options.patience.joining)
    if (this.#stop) write(socket, this.#stop)
    if (this.#absence) this.fail(this.#absence)
    else if (this.#failure) send({ failed: this.#failure })
    else if (this.#peers.size === this.#options.size) this.#start()
    return peer
  }

  #start(): void {
    clearTimeout(this.#joining)
    this.#hasStarted = true
    const peers = this.#ranks.map((rank) => this.#peers.get(rank) as Peer)
    this.#tell(frame({ start: peers.map(({ rank, host, pid }) => ({ rank, host, pid })) }))
  }

  #take(peer: Peer, message: Message): void {
    if (typeof message.gather === 'string') this.#gather(peer, message.gather, message.value)
    else if (message.fail) this.fail(message.fail as Failure)
    else if (message.close) this.#leave(peer)
    else if (typeof message.stop === 'string') this.stop(message.stop as NodeJS.Signals, false)
  }

  #leave(peer: Peer): void {
    peer.hasLeft = true
    if (!this.#failure) this.#refuseEnded()
    this.#noteEmpty()
  }

  #gather(peer: Peer, what: string, value: unknown): void {
    if (this.#isEnding && what !== theEnd) return
    const place = what === theEnd ? lastPlace : peer.gathers++
    const gather = this.#gathers.get(place) ?? { what, first: peer, values: new Map() }
    this.#gathers.set(place, gather)
    gather.values.set(peer.rank, frame({ gathered: value ?? null }))
    if (gather.what !== what) this.fail(lostStep(peer, what, gather))
    else if (gather.values.size < this.#options.size) this.#refuseEnded()
    else {
      this.#gathers.delete(place)
      this.#tell(Buffer.concat(this.#ranks.map((rank) => gather.values.get(rank) as Buffer)))
    }
  }

  /** Nobody waits for a rank whose work has ended. Where all were asked to stop, their work ends too; else it has lost step. */
  #refuseEnded(): void {
    const atEnd = this.#gathers.get(lastPlace)?.values
    for (const [place, { what, first }] of this.#gathers) {
      const isMissing = ({ rank, hasLeft, gathers }: Peer): boolean =>
        gathers <= place && (hasLeft || (place !== lastPlace && atEnd?.has(rank) === true))
      const gone = this.peers.find(isMissing)
      if (!gone) continue
      if (this.#stop && !gone.hasLeft) this.#endWork()
      else this.fail(lost(gone, `had ended its work when rank ${first.rank} waited for it at '${what}'`))
    }
  }

  #endWork(): void {
    this.#isEnding = true
    for (const place of this.#gathers.keys()) if (place !== lastPlace) this.#gathers.delete(place)
    this.#tell(frame({ ending: true }))
  }

  #onSilent(socket: Socket): void {
    const peer = this.peers.find((each) => each.socket === socket)
    const seconds = this.#options.patience.silence / 1000
    if (peer) this.fail({ ...lost(peer, `has been silent for ${seconds} s`, silentHint), isSilent: true })
    void end(socket)
  }

  #onMissing(): void {
    const missing = this.#ranks.filter((rank) => !this.#peers.has(rank))
    const names = rankWords(missing).replace(/^r/, 'R')
    const seconds = this.#options.patience.joining / 1000
    this.fail({
      ...{ rank: missing[0], code: RankError.code },
      message: [`${names} did not come within ${seconds} s`, ...this.#refused].join('; '),
      hint: 'Look at what they say themselves. They must start with the same address, port, secret and number of ranks; where machines start at different times, set FIRE_JOIN_TIMEOUT to more seconds.',
    })
  }
}

/** Of the end among gathers: it is after all others, however many a rank came to. */
const lastPlace = Number.POSITIVE_INFINITY

function lostStep(peer: Peer, what: string, { what: other, first }: Gather): Failure {
  const place = `came to '${what}' while rank ${first.rank} came to '${other}': they have lost step`
  return { ...lost(peer, place), rank: null }
}

/** The name of a machine or pod that was made just now is known some seconds later. */
const [namePauseMs, nameMs] = [500, 60_000]

async function known(host: string, longest: number, signal: AbortSignal | undefined, onLog: (line: string) => void) {
  const until = performance.now() + longest
  for (let tries = 0; ; tries += 1) {
    throwIfAborted(signal)
    const found = await lookup(host).catch((error: Error) => error)
    if (!(found instanceof Error)) return found
    if (performance.now() > until) throw found
    if (tries === 0) onLog(`${host} is not known as a host name here; it is looked for ${longest / 1000} s`)
    await sleep(namePauseMs)
  }
}

/** Debian leads a machine's own name to 127.0.1.1, where no other machine comes: such a name stands for all addresses. */
async function addressOf({ host, patience, signal, onLog }: StoreOptions): Promise<string> {
  if (isIP(host) > 0 || host === 'localhost') return host
  const { address, family } = await known(host, Math.min(nameMs, patience.joining), signal, onLog)
  const isLoopback = address.startsWith('127.') || address === '::1'
  return isLoopback ? (family === 6 ? '::' : '0.0.0.0') : address
}

function whyNotOpen({ code, message }: NodeJS.ErrnoException, { host, port, keeper }: StoreOptions): RankError {
  const words = { detail: { host, port, systemCode: code } }
  const where = port === 0 ? host : `${host}:${port}`
  if (code === 'EADDRINUSE') {
    return new RankError(`The ranks cannot meet at ${where}: that port is in use on this machine`, {
      ...words,
      hint: 'Set MASTER_PORT, or FIRE_STORE_PORT for this program alone, to another port for all ranks. An earlier run may still hold it: ss -ltnp shows who does.',
    })
  }
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    const problem = code === 'EADDRNOTAVAIL' ? 'is no address of this machine' : 'is not known as a host name here'
    return new RankError(`The ranks cannot meet at ${where}: ${host} ${problem}, and ${keeper} is to listen there`, {
      ...words,
      hint:
        keeper === 'the launcher'
          ? 'Give launch --host an address of this machine, or leave it out.'
          : 'Set MASTER_ADDR to a name or address of the machine of rank 0 for all ranks.',
    })
  }
  return new RankError(`The ranks cannot meet at ${where}: ${message}`, words)
}
