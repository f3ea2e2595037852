/**
 * Several ranks, each a process with the addon: CPUs under mpirun, and the path of NCCL on emulated GPUs with the stand-in of
 * test/nccl. Skipped where there is no mpirun, or the emulated addon was not built (`cmake --build build --target fire_tests`).
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Transport } from '../../src/engine/group.js'
import { loadNative } from '../../src/engine/load.js'
import { built, temporaryFolder } from '../fakes/world.js'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const emulated = here('../../build/Release/fire_emulated.node')
const standin = ['Release/libfire_nccl_standin.so', 'libfire_nccl_standin.so']
  .map((name) => here(`../../build/${name}`))
  .find(existsSync)
const hasMpi = built && 'version' in loadNative().transports().mpi && spawnSync('mpirun', ['--version']).status === 0

interface Task {
  transport: Transport
  /** The pairs of each rank. */
  shares: number[][]
  steps: number
  device: 'cpu' | 'cuda'
  /** A rank that never comes to the second step. */
  absent?: number
  /** Not by mpirun, although the transport wants it. */
  apart?: boolean
}

interface Result {
  losses: number[]
  norms: number[]
  waited: number[]
  step: number
  error?: { code: string; message: string }
}

interface Outcome {
  status: number | null
  out: string
  ranks: (Result | null)[]
  /** Of what was started: mpirun says there why it ended. */
  text: string
}

/** Runs the ranks of a task to their end. Those of NCCL are started one by one, with `faults` in their environment. */
async function run(task: Task, env: Record<string, string> = {}): Promise<Outcome> {
  const out = await temporaryFolder()
  const script = [here('rank.mjs'), JSON.stringify({ ...task, model: here('../golden/qwen3_vl'), out })]
  const common = { ...process.env, FIRE_BUCKET_BYTES: '1', ...env }
  const count = task.shares.length
  const children =
    task.transport === 'mpi' && count > 1 && !task.apart
      ? [
          start('mpirun', ['--oversubscribe', '-n', String(count), process.execPath, ...script], {
            ...common,
            ...asRoot,
          }),
        ]
      : task.shares.map((_, rank) =>
          start(process.execPath, [...script, String(rank)], { ...common, ...onEmulator(task) }),
        )
  const texts = children.map(textOf)
  if (task.absent !== undefined && children.length > 1) {
    await once(children[0] as ChildProcess, 'close')
    children[task.absent]?.kill('SIGKILL')
  }
  await Promise.all(children.map((child) => (child.exitCode ?? child.signalCode) === null && once(child, 'close')))
  const ranks = task.shares.map((_, rank): Result | null => {
    const file = join(out, `${rank}.json`)
    return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null
  })
  const status = Math.max(...children.map(({ exitCode }) => exitCode ?? 1))
  return { status, out, ranks, text: texts.map((text) => text()).join('') }
}

const asRoot = { OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' }

const onEmulator = ({ device }: Pick<Task, 'device'>): Record<string, string> =>
  device === 'cpu' ? {} : { FIRE_NATIVE_PATH: emulated, FIRE_NCCL_LIBRARY: standin ?? '' }

function start(command: string, args: string[], env: NodeJS.ProcessEnv): ChildProcess {
  return spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: 200_000, killSignal: 'SIGKILL' })
}

function textOf({ stdout, stderr }: ChildProcess): () => string {
  let text = ''
  for (const stream of [stdout, stderr]) stream?.on('data', (chunk) => (text += chunk))
  return () => text
}

/** The adapter and its moments, as `saveState` wrote them. */
function stateOf({ out }: Outcome, folder: string): Record<string, Float32Array> {
  const bytes = readFileSync(join(out, folder, 'optimizer.safetensors'))
  const start = 8 + Number(bytes.readBigUInt64LE())
  const header = JSON.parse(bytes.subarray(8, start).toString()) as Record<string, { data_offsets: [number, number] }>
  const floats = (name: string): Float32Array => {
    const [begin, end] = header[name]?.data_offsets ?? [0, 0]
    return new Float32Array(Uint8Array.from(bytes.subarray(start + begin, start + end)).buffer)
  }
  return { param: floats('param'), first: floats('exp_avg') }
}

function distance(got: Float32Array, want: Float32Array): number {
  const norm = (values: Float32Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0))
  return norm(got.map((value, index) => value - (want[index] ?? 0))) / norm(want)
}

/** What one rank makes of all pairs, with more accumulation. */
const alone = (task: Task): Promise<Outcome> => run({ ...task, shares: [task.shares.flat().sort()] })

async function expectSameAsAlone(task: Task): Promise<void> {
  const [ranks, one] = [await run(task), await alone(task)]
  expect(ranks.status, ranks.text).toBe(0)
  expect(one.status, one.text).toBe(0)
  const want = stateOf(one, 'state-0')
  task.shares.forEach((share, rank) => {
    const result = ranks.ranks[rank] as Result
    const state = stateOf(ranks, `state-${rank}`)
    // f32 sums in another order.
    for (const name of ['param', 'first']) {
      const [got, expected] = [state[name] as Float32Array, want[name] as Float32Array]
      expect(distance(got, expected)).toBeLessThan(1e-6)
    }
    expect(state).toEqual(stateOf(ranks, 'state-0'))
    expect(result.step).toBe(task.steps)
    result.norms.forEach((norm, step) => {
      expect(Math.abs(norm / (one.ranks[0]?.norms[step] ?? 0) - 1)).toBeLessThan(1e-5)
    })
    const count = task.shares.flat().length
    result.losses.forEach((loss, at) => {
      const pair = share[at % share.length] as number
      const expected = one.ranks[0]?.losses[Math.floor(at / share.length) * count + pair] as number
      expect(Math.abs(loss / expected - 1)).toBeLessThan(1e-5)
    })
  })
  const again = await run(task)
  expect(stateOf(again, 'state-0')).toEqual(stateOf(ranks, 'state-0'))
}

describe.skipIf(!hasMpi)('ranks on CPUs under mpirun', { timeout: 300_000 }, () => {
  const task = { transport: 'mpi', device: 'cpu', steps: 3 } as const

  it.each([
    [
      [
        [0, 2],
        [1, 3],
      ],
    ],
    [[[0, 1, 2], [], [3]]],
    [[[0], [1], [2], [3]]],
  ])('%j take the step that one rank takes with more accumulation', (shares) => expectSameAsAlone({ ...task, shares }))

  it('stop when the group is ended while they wait, with adapter and moments of the last step', async () => {
    const { ranks, status, ...outcome } = await run({ ...task, shares: [[0, 1], [2]], absent: 1 })
    expect(status).not.toBe(0)
    expect(ranks[0]?.error).toEqual({ code: 'ERR_FIRE_RANKS', message: 'Rank 1 failed: it was killed' })
    const found = { ranks, status, ...outcome }
    expect(stateOf(found, 'after-0')).toEqual(stateOf(found, 'state-0'))
  })

  it('are told when mpirun made another group, and when the library is missing', async () => {
    const shares = [[0], [1]]
    const missing = await run({ ...task, shares }, { FIRE_MPI_LIBRARY: '/nowhere/libfire_mpi.so' })
    expect(missing.ranks.map((rank) => rank?.error?.code)).toContain('ERR_FIRE_RANKS')
    expect(missing.ranks.map((rank) => rank?.error?.message).join()).toMatch(/MPI is missing: .*nowhere/)
    const apart = await run({ ...task, shares, apart: true })
    for (const rank of apart.ranks)
      expect(rank?.error?.message).toMatch(/rank 0 of 1, not rank . of 2; start the ranks with mpirun/)
  })
})

describe.skipIf(!existsSync(emulated) || !standin)('ranks on emulated GPUs', { timeout: 300_000 }, () => {
  const task = { transport: 'nccl', device: 'cuda', steps: 2 } as const

  it.each([
    [
      [
        [0, 2],
        [1, 3],
      ],
    ],
    [[[0, 1, 2], [], [3]]],
  ])('%j take the step that one rank takes with more accumulation', (shares) => expectSameAsAlone({ ...task, shares }))

  it('stop when the group is ended while they wait, with adapter and moments of the last step', async () => {
    const outcome = await run({ ...task, shares: [[0, 1], [2]], absent: 1 })
    expect(outcome.ranks[0]?.error).toEqual({ code: 'ERR_FIRE_RANKS', message: 'Rank 1 failed: it was killed' })
    expect(stateOf(outcome, 'after-0')).toEqual(stateOf(outcome, 'state-0'))
  })

  it('say what NCCL says, of a version that is too old and of an error on the way', async () => {
    const shares = [[0], [1]]
    const script = `console.log(JSON.stringify(require(${JSON.stringify(emulated)}).transports()))`
    const env = { ...process.env, ...onEmulator(task), FIRE_NCCL_STANDIN: 'version' }
    const { stdout } = spawnSync(process.execPath, ['-e', script], { env, encoding: 'utf8' })
    expect(JSON.parse(stdout).nccl.missing).toMatch(/is NCCL 2\.8\.4, need 2\.14\.0/)
    const failed = await run({ ...task, shares }, { FIRE_NCCL_STANDIN: 'async:1' })
    for (const rank of failed.ranks) {
      expect(rank?.error?.code).toBe('ERR_FIRE_RANKS')
      expect(rank?.error?.message).toContain('remote process exited or there was a network error')
    }
  })
})
