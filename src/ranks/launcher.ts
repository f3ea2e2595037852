/** Starts the ranks of one machine, keeps the store where they meet, and ends what is left when one of them fails. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { constants, hostname } from 'node:os'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { RankError, reasonOf } from '../errors.js'
import { keepSecret } from '../secrets.js'
import { type Environment, patienceOf, worldOf } from './environment.js'
import { diedHint, type Failure } from './failure.js'
import { type Peer, Store } from './store.js'

/** How the ranks are started: as children, or by mpirun, without which MPI does not work. */
export type Starting = 'processes' | 'mpirun'

export interface LaunchOptions {
  /** Number of ranks. */
  size: number
  /** What each rank runs: a program and its arguments, no shell. */
  command: readonly [string, ...string[]]
  /** Address of this machine at which the ranks meet. */
  host: string
  starting: Starting
  env?: Environment
  /** Rank 0 writes to stderr only. */
  keepsStdout?: boolean
  onLog(line: string): void
}

/** What a launch came to. */
export interface Launched {
  /** Of the rank that failed first; 128 and the number of a signal that ended it. */
  exitCode: number
  failure: Failure | null
  /** That mpirun was killed, by nobody here: no rank can say it. */
  killed: string | null
}

/** After a failure, in milliseconds: when what is left is asked to end, and when it is ended. */
const [askAfter, killAfter] = [7000, 10_000]

/** After the second signal of a person, in milliseconds. */
const killAtOnceAfter = 2000

interface Exit {
  /** `null`: mpirun, which has all ranks. */
  rank: number | null
  exitCode: number
}

export class Launch {
  readonly #options: LaunchOptions
  readonly #store: Store
  readonly #children = new Map<ChildProcess, number | null>()
  readonly #exits: Exit[] = []
  readonly #timers: NodeJS.Timeout[] = []
  readonly #ended: Promise<void>
  #onEnd: () => void = () => {}
  #killed: string | null = null

  /** @throws {RankError} when the ranks cannot meet or cannot be started. */
  static async start(options: LaunchOptions): Promise<Launch> {
    const { size, host, env = process.env, onLog } = options
    const around = worldOf(env)
    if (around !== null && around.size > 1) {
      throw new RankError(
        `This process is rank ${around.rank} of ${around.size} already, and launch starts ranks itself`,
        {
          hint: 'Start the command without launch: it understands torchrun, srun and mpirun by itself.',
        },
      )
    }
    const launcher = options.starting === 'mpirun' ? mpirun(size, env) : []
    const secret = randomBytes(32).toString('hex')
    keepSecret(secret)
    let launch: Launch | undefined
    const onFailure = (failure: Failure): void => launch?.endSoon(failure)
    const meeting = { host, port: 0, size, secret, patience: patienceOf(env), keeper: 'the launcher', onLog, onFailure }
    const store = await Store.open(meeting)
    launch = new Launch(options, store)
    const common = {
      ...(launcher.length > 0 ? withinMachine : {}),
      ...cleaned(env),
      FIRE_SECRET: secret,
      FIRE_STORE: `${host.includes(':') ? `[${host}]` : host}:${store.port}`,
    }
    try {
      if (launcher.length > 0) launch.#spawn(null, [...launcher, ...options.command], common)
      else {
        for (let rank = 0; rank < size; rank++) {
          const place = { RANK: String(rank), WORLD_SIZE: String(size) }
          launch.#spawn(rank, options.command, { ...common, ...place })
        }
      }
    } catch (error) {
      await launch.#abandon()
      throw new RankError(`The ranks cannot be started: ${reasonOf(error)}`, { cause: error })
    }
    return launch
  }

  private constructor(options: LaunchOptions, store: Store) {
    this.#options = options
    this.#store = store
    this.#ended = new Promise((resolve) => {
      this.#onEnd = resolve
    })
  }

  /** What was started of ranks that are not all started. */
  async #abandon(): Promise<void> {
    this.#kill('SIGKILL')
    this.#children.clear()
    await this.#store.close()
  }

  /** Resolves when every rank has ended. */
  async ended(): Promise<Launched> {
    await this.#ended
    for (const timer of this.#timers) clearTimeout(timer)
    await this.#store.close()
    const failure = this.#store.failure ?? null
    const failed = this.#exits.filter(({ exitCode }) => exitCode !== 0)
    const first = failed.find(({ rank }) => rank === failure?.rank) ?? failed[0]
    return { exitCode: first?.exitCode ?? 0, failure, killed: this.#killed }
  }

  /** Hands a signal on: the first asks the ranks to stop in order, the second to leave at once. */
  stop(signal: NodeJS.Signals, isUrgent: boolean): void {
    // mpirun would end its ranks a second later, whatever they still write.
    if (this.#options.starting === 'mpirun') this.#store.stop(signal, isUrgent)
    else for (const child of this.#children.keys()) child.kill(signal)
    if (isUrgent) this.#later(killAtOnceAfter, () => this.#kill('SIGKILL'))
  }

  /** After a failure the ranks end by themselves; those that do not are ended. One that hangs will not. */
  endSoon({ rank, isSilent }: Failure): void {
    if (isSilent) this.#kill('SIGKILL', ({ rank: each }) => each === rank)
    this.#later(askAfter, () => this.#kill('SIGTERM'))
    this.#later(killAfter, () => this.#kill('SIGKILL'))
  }

  #later(ms: number, what: () => void): void {
    this.#timers.push(setTimeout(what, ms))
  }

  /** Ranks that met are known by their process, also those of mpirun; the number of one that is gone may be another's by now. */
  #kill(signal: NodeJS.Signals, which?: (peer: Peer) => boolean): void {
    const there = this.#store.peers.filter(
      ({ host, hasLeft, socket }) => host === hostname() && !hasLeft && !socket.destroyed,
    )
    const children = which ? [] : [...this.#children.keys()].flatMap(({ pid }) => pid ?? [])
    for (const pid of new Set([...(which ? there.filter(which) : there).map(({ pid }) => pid), ...children])) {
      kill(pid, signal)
    }
  }

  /** A session of its own: a signal of the terminal reaches the launcher alone, which hands it on. */
  #spawn(rank: number | null, [program, ...words]: readonly string[], env: Environment): void {
    const isFirst = rank === null || rank === 0
    const output = this.#options.keepsStdout ? process.stderr : 'inherit'
    const child = spawn(program, words, {
      env: env as NodeJS.ProcessEnv,
      detached: true,
      stdio: isFirst ? ['ignore', output, 'inherit'] : ['ignore', 'pipe', 'pipe'],
    })
    this.#children.set(child, rank)
    if (child.stdout) copyLines(child.stdout, this.#options.keepsStdout ? process.stderr : process.stdout, rank ?? 0)
    if (child.stderr) copyLines(child.stderr, process.stderr, rank ?? 0)
    child.once('error', (error) => this.#onExit(child, 1, `could not be started: ${error.message}`))
    child.once('close', (code, signal) => {
      if (signal === null) return this.#onExit(child, code ?? 1, `ended with exit code ${code}`)
      const how = `was ended by ${signal}`
      if (rank === null && this.#timers.length === 0) this.#killed = `${nameOf(child, rank)} ${how}`
      else this.#options.onLog(`${nameOf(child, rank)} ${how}`)
      this.#onExit(child, 128 + constants.signals[signal], how, diedHint)
    })
  }

  #onExit(child: ChildProcess, exitCode: number, how: string, hint?: string): void {
    const rank = this.#children.get(child)
    if (rank === undefined) return
    this.#children.delete(child)
    this.#exits.push({ rank, exitCode })
    const failure = { rank, message: `${nameOf(child, rank)} ${how}`, code: RankError.code, hint }
    const hasLeft = this.#store.peers.some((peer) => peer.rank === rank && peer.hasLeft)
    if (exitCode === 0) this.#store.expectNoMore(failure)
    else if (!hasLeft) this.#store.fail(failure)
    if (this.#children.size === 0) this.#onEnd()
  }
}

const nameOf = ({ pid }: ChildProcess, rank: number | null): string =>
  rank === null ? 'mpirun' : `Rank ${rank} (pid ${pid})`

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended.
  }
}

/** What an outer starter, or an earlier run, has left: the ranks of this launch must not read it. */
function cleaned(env: Environment): Environment {
  const foreign =
    /^(RANK|WORLD_SIZE|LOCAL_RANK|MASTER_ADDR|MASTER_PORT|FIRE_STORE_PORT|(TORCHELASTIC|OMPI|PMI|PMIX|SLURM)_.*)$/
  const mine = /^OMPI_(ALLOW_RUN_AS_ROOT|MCA_)/
  return Object.fromEntries(Object.entries(env).filter(([name]) => !foreign.test(name) || mine.test(name)))
}

/** Open MPI between the ranks of one machine goes through its memory, so that none of them listens on the network. */
const withinMachine = { OMPI_MCA_pml: 'ob1', OMPI_MCA_btl: 'self,vader' }

/** mpirun and its options, which differ between Open MPI and MPICH. @throws {RankError} where there is none. */
function mpirun(size: number, env: Environment): string[] {
  const { stdout, error } = spawnSync('mpirun', ['--version'], { env: env as NodeJS.ProcessEnv, encoding: 'utf8' })
  if (error) {
    throw new RankError('Ranks on CPUs are started by mpirun, and there is none here', {
      hint: 'Install it (Debian: apt-get install openmpi-bin libopenmpi-dev). On GPUs, or for a command that trains nothing, --starter processes does without.',
    })
  }
  if (!/Open MPI|Open RTE|OpenRTE|PRRTE/i.test(stdout)) return ['mpirun', '-n', String(size), '-bind-to', 'none']
  return [
    ...['mpirun', '-n', String(size), '--quiet', '--oversubscribe', '--bind-to', 'none'],
    ...(process.getuid?.() === 0 ? ['--allow-run-as-root'] : []),
  ]
}

/** Each line with its rank, unless it has one or is JSON, which has a field for it. */
function copyLines(from: Readable, to: Writable, rank: number): void {
  createInterface({ input: from, crlfDelay: Number.POSITIVE_INFINITY }).on('line', (line) => {
    to.write(`${/^\[rank \d+\] |^\{/.test(line) ? '' : `[rank ${rank}] `}${line}\n`)
  })
}
