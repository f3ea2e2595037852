/**
 * What the environment says of the ranks: those of our launcher and torchrun (RANK), of mpirun (OMPI_*, PMI_*) and of srun (SLURM_*)
 * are read as they are. docs/many-gpus.md has the table.
 */
import { createHash } from 'node:crypto'
import { RankError } from '../errors.js'
import { keepSecret } from '../secrets.js'

export type Environment = Readonly<Record<string, string | undefined>>

/** A process that a starter made one of several. */
export interface Started {
  rank: number
  /** Number of ranks; 1 where one process was started alone. */
  size: number
  starter: Starter
}

type Starter = 'torchrun' | 'mpirun' | 'srun'

/** Where the ranks meet. */
export interface Meeting {
  host: string
  port: number
  /** The launcher is there already; otherwise rank 0 opens the port. */
  isOpen: boolean
}

interface Names {
  starter: Starter
  rank: string
  size: string
}

/** Those of a starter inside another come first. */
const starters: readonly Names[] = [
  { starter: 'torchrun', rank: 'RANK', size: 'WORLD_SIZE' },
  {
    starter: 'mpirun',
    rank: 'OMPI_COMM_WORLD_RANK',
    size: 'OMPI_COMM_WORLD_SIZE',
  },
  { starter: 'mpirun', rank: 'PMI_RANK', size: 'PMI_SIZE' },
  // SLURM_NTASKS and SLURM_PROCID are set for the script of sbatch too, which is one process; what srun starts has the size of its step.
  { starter: 'srun', rank: 'SLURM_PROCID', size: 'SLURM_STEP_NUM_TASKS' },
]

/**
 * Where this process stands, or `null` where no starter says that there are others.
 * @throws {RankError} when the environment is incomplete or contradicts itself.
 */
export function worldOf(env: Environment): Started | null {
  const complete = starters.filter(({ rank, size }) => isSet(env, rank) && isSet(env, size))
  const found = complete.find((names) => isSrun(env, names)) ?? complete[0]
  if (!found) return refuseHalf(env)
  const started = read(env, found)
  for (const outer of complete.filter((names) => names !== found)) refuseContradiction(env, found, started, outer)
  const size = isSet(env, 'WORLD_SIZE') ? wholeNumber(env, 'WORLD_SIZE') : started.size
  if (size !== started.size) throw contradiction(env, ['WORLD_SIZE'], [found.size])
  return started
}

/** srun that serves MPICH (--mpi=pmi2) says its own numbers under both names. */
const isSrun = (env: Environment, { starter }: Names): boolean =>
  starter === 'srun' &&
  env.PMI_RANK === env.SLURM_PROCID &&
  env.PMI_SIZE === env.SLURM_STEP_NUM_TASKS &&
  !isSet(env, 'RANK')

/** Before the ranks met; 0 where the environment is none of several ranks, or wrong, which whoever joins the ranks says. */
export function rankIn(env: Environment): number {
  try {
    return worldOf(env)?.rank ?? 0
  } catch {
    return 0
  }
}

/** RANK alone is half of what torchrun says; WORLD_SIZE with the rank of srun is common in scripts, and enough. */
function refuseHalf(env: Environment): null {
  const half = starters.find(({ starter, rank, size }) => starter !== 'srun' && (isSet(env, rank) || isSet(env, size)))
  if (!half) return null
  const [there, missing] = isSet(env, half.rank) ? [half.rank, half.size] : [half.size, half.rank]
  throw new RankError(`${there} is set and ${missing} is not, so it is unknown which rank of how many this is`, {
    hint: `Set both, or unset ${there} to run one process alone.`,
  })
}

function read(env: Environment, names: Names): Started {
  const [rank, size] = [wholeNumber(env, names.rank), wholeNumber(env, names.size)]
  if (size === 0) throw new RankError(`${names.size} is 0: it is the number of ranks, at least 1`)
  if (rank >= size) {
    throw new RankError(`${names.rank} is ${rank} and ${names.size} is ${size}: ranks count from 0 to ${size - 1}`)
  }
  return { rank, size, starter: names.starter }
}

/** torchrun and our launcher may run inside of another starter, one on each machine; an exported RANK may not. */
function refuseContradiction(env: Environment, found: Names, { rank, size }: Started, outer: Names): void {
  if (found.starter !== 'torchrun' || isSet(env, 'TORCHELASTIC_RUN_ID') || isSet(env, 'FIRE_STORE')) return
  const other = read(env, outer)
  if (other.size === 1 || (other.rank === rank && other.size === size)) return
  throw contradiction(env, [found.rank, found.size], [outer.rank, outer.size])
}

function contradiction(env: Environment, names: string[], others: string[]): RankError {
  const said = (all: string[]): string => all.map((name) => `${name}=${env[name]}`).join(' ')
  return new RankError(`${said(names)} contradicts ${said(others)}`, {
    hint: `Unset ${names.join(' and ')}: ${others.join(' and ')} come from what started this process.`,
  })
}

/** @throws {RankError} when the environment does not say where rank 0 is. */
export function meetingOf(env: Environment, started: Started): Meeting {
  if (isSet(env, 'FIRE_STORE')) return { ...placeOf(env.FIRE_STORE as string), isOpen: true }
  const host = env.MASTER_ADDR || hostOf(env, started)
  if (host === undefined) {
    throw new RankError('MASTER_ADDR is not set, so the ranks do not know where to meet', {
      hint: `Set MASTER_ADDR to the host name or address of rank 0 for all ranks${passedOn(started, 'MASTER_ADDR')}.`,
    })
  }
  return { host, port: portOf(env, started), isOpen: false }
}

/** `host:port`, `[::1]:port` */
function placeOf(text: string): { host: string; port: number } {
  const [, host, port] = /^\[?(.+?)\]?:(\d+)$/.exec(text) ?? []
  if (host === undefined)
    throw new RankError(`FIRE_STORE is '${text}', which is not HOST:PORT`, {
      hint: 'Unset it: launch sets it for its ranks, and nobody else needs to.',
    })
  return { host, port: Number(port) }
}

function hostOf(env: Environment, { starter, size }: Started): string | undefined {
  if (starter === 'torchrun') return undefined
  const hosts = env.SLURM_STEP_NODELIST || env.SLURM_JOB_NODELIST
  if (starter === 'srun') return hosts && firstHost(hosts)
  const here = Number(env.OMPI_COMM_WORLD_LOCAL_SIZE || env.MPI_LOCALNRANKS)
  if (here === size) return '127.0.0.1'
  return env.SLURM_JOB_NODELIST && firstHost(env.SLURM_JOB_NODELIST)
}

/** Of a list as Slurm writes it: `gpu[03-05,9],login` begins with gpu03. */
export function firstHost(list: string): string {
  const [first = list] = /^(?:[^,[]|\[[^\]]*\])+/.exec(list) ?? []
  return first.replaceAll(/\[(\w+)[^\]]*\]/g, '$1')
}

/** Below the ports that Linux gives to clients, so that few are in use; two jobs on one machine have others. */
const [lowestPort, portCount] = [16384, 16384]

function portOf(env: Environment, started: Started): number {
  if (isSet(env, 'FIRE_STORE_PORT')) return port(env, 'FIRE_STORE_PORT')
  // The agent of torchrun keeps a store of its own on that port.
  if (isSet(env, 'MASTER_PORT')) return port(env, 'MASTER_PORT') + (env.TORCHELASTIC_USE_AGENT_STORE === 'True' ? 1 : 0)
  const job =
    started.starter === 'srun' ? `${env.SLURM_JOB_ID} ${env.SLURM_STEP_ID}` : (env.PMIX_NAMESPACE ?? env.SLURM_JOB_ID)
  if (started.starter !== 'torchrun' && job !== undefined) {
    return lowestPort + (createHash('sha256').update(job).digest().readUInt32BE() % portCount)
  }
  throw new RankError('MASTER_PORT is not set, so the ranks do not know where to meet', {
    hint: `Set MASTER_PORT to a free port of rank 0's machine for all ranks${passedOn(started, 'MASTER_PORT')}.`,
  })
}

function port(env: Environment, name: string): number {
  const value = wholeNumber(env, name)
  if (value < 1 || value > 65534) throw new RankError(`${name} is ${value}, which is no port: 1 to 65534`)
  return value
}

const shortestSecret = 16

/** What the ranks know and nobody else on the network. @throws {RankError} when there is none. */
export function secretOf(env: Environment, started: Started): string {
  const secret = env.FIRE_SECRET ?? ''
  if (secret.length < shortestSecret) {
    const problem = secret === '' ? 'is not set' : `is shorter than ${shortestSecret} characters`
    throw new RankError(`FIRE_SECRET ${problem}: the ranks of a run know one another by it`, {
      hint: `Set it once, before the ranks start: export FIRE_SECRET=$(openssl rand -hex 32)${passedOn(started, 'FIRE_SECRET')}. fire-train launch makes one itself.`,
    })
  }
  keepSecret(secret)
  return secret
}

/** mpirun hands the environment to other machines by name only. */
const passedOn = ({ starter }: Started, name: string): string => (starter === 'mpirun' ? `, and mpirun -x ${name}` : '')

/** How long ranks are waited for, in milliseconds. */
export interface Patience {
  /** Until all have come. */
  joining: number
  /** Until a rank that says nothing counts as hung. */
  silence: number
}

/** FIRE_JOIN_TIMEOUT and FIRE_RANK_TIMEOUT, in seconds. */
export const patienceOf = (env: Environment): Patience => ({
  joining: milliseconds(env, 'FIRE_JOIN_TIMEOUT', 300),
  silence: milliseconds(env, 'FIRE_RANK_TIMEOUT', 60),
})

/** Longer is beyond what a timer of Node can count. */
const mostSeconds = 2_000_000

function milliseconds(env: Environment, name: string, otherwise: number): number {
  const seconds = isSet(env, name) ? Number(env[name]) : otherwise
  if (seconds > 0 && seconds <= mostSeconds) return seconds * 1000
  throw new RankError(`${name} is '${env[name]}': seconds are needed, more than 0 and at most ${mostSeconds}`)
}

const isSet = (env: Environment, name: string): boolean => env[name] !== undefined && env[name] !== ''

function wholeNumber(env: Environment, name: string): number {
  const text = env[name] as string
  if (/^\d{1,7}$/.test(text)) return Number(text)
  throw new RankError(`${name} is '${text}', which is no whole number`)
}
