/** Ranks as real processes, with the environment of whatever may have started them. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { Outcome } from '../command.js'

export const worker = fileURLToPath(new URL('./worker.mjs', import.meta.url))

export const secret = 'a secret for the processes of a test'

export interface Process {
  child: ChildProcess
  done: Promise<Outcome>
  /** Resolves once it has said this on stderr. */
  said(text: string): Promise<void>
}

export function startProcess(program: string, args: readonly string[], env: object): Process {
  const child = spawn(program, args, {
    env: { ...clean(), ...env } as NodeJS.ProcessEnv,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [stdout, stderr] = ['', '']
  const waiting = new Map<string, () => void>()
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
    for (const [text, resolve] of waiting) if (stderr.includes(text)) resolve()
  })
  const done = new Promise<Outcome>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
  const said = (text: string): Promise<void> =>
    new Promise((resolve) => (stderr.includes(text) ? resolve() : waiting.set(text, resolve)))
  return { child, done, said }
}

/** The tests themselves may run under a starter. */
const clean = (): object =>
  Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^(RANK|WORLD_SIZE|MASTER_.*|FIRE_.*|(OMPI|PMI|PMIX|SLURM)_.*)$/.test(name),
    ),
  )

export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

export interface StartOptions {
  /** Arguments of the worker; by rank where they differ. */
  args: string[] | ((rank: number) => string[])
  /** Of one rank, over that of all. */
  env?(rank: number): object
  /** Ranks that are started; default: all. */
  ranks?: number[]
  port?: number
  program?: string
}

/** As by hand or in an indexed Job: rank 0 keeps the store. */
export async function startRanks(
  size: number,
  { args, env = () => ({}), ranks = [...Array(size).keys()], port, program = worker }: StartOptions,
): Promise<Process[]> {
  const meeting = { MASTER_ADDR: '127.0.0.1', MASTER_PORT: port ?? (await freePort()), WORLD_SIZE: size }
  const common = { ...meeting, FIRE_SECRET: secret, FIRE_RANK_TIMEOUT: 4, FIRE_JOIN_TIMEOUT: 30 }
  return ranks.map((rank) => {
    const words = typeof args === 'function' ? args(rank) : args
    return startProcess(process.execPath, [program, ...words], { ...common, RANK: rank, ...env(rank) })
  })
}

export const outcomesOf = (processes: readonly Process[]): Promise<Outcome[]> =>
  Promise.all(processes.map(({ done }) => done))

export const runRanks = async (size: number, options: StartOptions): Promise<Outcome[]> =>
  outcomesOf(await startRanks(size, options))

export const hasMpirun = spawnSync('mpirun', ['--version']).status === 0

/** mpirun refuses both as it is: more ranks than cores, and root. */
export const mpirunEnv = { OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' }
