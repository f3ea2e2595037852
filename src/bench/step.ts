/**
 * `bench step`: one optimizer step of the objective, ours packed beside ours plain and the PyTorch peer, on the same
 * random model, adapter and pairs. Each variant has its own process; rounds interleave, so that whatever else the machine
 * does falls on all of them alike.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { DType, EngineSpec } from '../engine/engine.js'
import { ArgumentError } from '../errors.js'
import { version } from '../version.js'
import { type Commit, describeCommit, describeLoad, describeMachine, type Machine, otherLoad } from './machine.js'
import { writeAdapter, writeModel } from './model.js'
import { writePairs } from './pairs.js'
import { type PeerVersions, probePeer } from './peer.js'
import { type EngineVariant, optimizer, publishedFire, type ReadyMessage, type StepMessage } from './protocol.js'
import { StepServer } from './server.js'
import { type BenchSize, peerFolder, readSpec } from './spec.js'
import { type Agreement, compare, type Ratio, ratios, type Series, summarize, type VariantSummary } from './summary.js'

export interface StepBenchOptions {
  size: BenchSize
  dtype: DType
  /** Of every variant; at least 1. */
  threads: number
  /** Timed rounds, after one that warms up. */
  rounds: number
  gemm: EngineSpec['gemm']
  /** Interpreter of the peer; `null` leaves the peer out. */
  python: string | null
  seed: number
}

export interface StepBenchHooks {
  /** A line for the person: a peer that was skipped, other work on the machine. */
  onNote?: (line: string) => void
  /** A part of the run begins: making the inputs, starting the processes, taking the steps. */
  onStage?: (title: string, total: number, unit: string) => void
  /** `done` units of the stage are finished, and what is under way. */
  onProgress?: (done: number, status: string) => void
  signal?: AbortSignal
}

export interface StepBenchResult {
  benchmark: 'step'
  date: string
  /** The command that measures this again. */
  command: string
  version: string
  commit: Commit | null
  machine: Machine
  versions: { node: string; peer: PeerVersions | null }
  settings: Omit<StepBenchOptions, 'python'> & { objective: typeof publishedFire; optimizer: typeof optimizer }
  /** One-minute load average before the first process started, and what other work added to it at the end. */
  load: { before: number; othersAfter: number }
  notes: string[]
  agreement: Agreement
  variants: VariantSummary[]
  /** By baseline. */
  ratios: Record<string, Ratio[]>
  series: Series[]
}

interface Variant {
  name: string
  command: string[]
}

/**
 * @throws {ArgumentError} for a count below 1, {FireError} `ERR_FIRE_BENCH` when a variant's process ends early; the
 *   reason of `signal` when that is aborted. Processes and the work folder are gone in every case.
 */
export async function benchStep(options: StepBenchOptions, hooks: StepBenchHooks = {}): Promise<StepBenchResult> {
  checkCounts(options)
  const notes: string[] = []
  const note = (line: string | null): void => {
    if (line === null) return
    notes.push(line)
    hooks.onNote?.(line)
  }
  const date = new Date().toISOString()
  // Read now: the files may change while the machine measures.
  const commit = await describeCommit()
  const machine = describeMachine()
  const peer = options.python === null ? null : await findPeer(options.python, note)
  const before = otherLoad(0)
  note(describeLoad(before, 'before the run'))
  const folder = await mkdtemp(join(tmpdir(), 'fire-train-bench-'))
  try {
    await writeInputs(folder, options, hooks)
    const variants = [...ourVariants(folder, options), ...(peer ? peerVariants(folder, peer.python, options) : [])]
    const series = await measure(variants, options.rounds, hooks)
    // Steps come one after another, so the benchmark itself keeps at most its threads busy.
    const othersAfter = otherLoad(options.threads)
    note(describeLoad(othersAfter, 'of others after the run'))
    const { python: _, ...settings } = options
    return {
      benchmark: 'step',
      date,
      command: describeCommand(options),
      version,
      commit,
      machine,
      versions: { node: process.version, peer: peer?.versions ?? null },
      settings: { ...settings, objective: publishedFire, optimizer },
      load: { before, othersAfter },
      notes,
      agreement: compare(series, options.dtype),
      variants: series.map(summarize),
      ratios: ratios(series),
      series,
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function checkCounts(options: StepBenchOptions): void {
  for (const name of ['threads', 'rounds'] as const) {
    const value = options[name]
    if (Number.isInteger(value) && value >= 1) continue
    throw new ArgumentError(`Expected an integer of at least 1 for ${name} but received ${value}`)
  }
}

async function findPeer(
  python: string,
  note: (line: string) => void,
): Promise<{ python: string; versions: PeerVersions } | null> {
  const found = await probePeer(python)
  if ('versions' in found) return { python, versions: found.versions }
  note(
    `peer skipped: ${python} cannot import torch, transformers and peft (${found.missing}); ` +
      'install bench/peer/requirements.txt or name an interpreter with --python',
  )
  return null
}

async function writeInputs(folder: string, { size, seed }: StepBenchOptions, hooks: StepBenchHooks): Promise<void> {
  const spec = await readSpec(size)
  const inputs = {
    model: () => writeModel(join(folder, 'model'), spec, seed, hooks.signal),
    adapter: () => writeAdapter(join(folder, 'adapter'), spec, seed),
    pairs: () => writePairs(join(folder, 'pairs.safetensors'), spec, seed),
  }
  let done = 0
  hooks.onStage?.(`random ${size} model`, Object.keys(inputs).length, 'parts')
  for (const [name, write] of Object.entries(inputs)) {
    hooks.signal?.throwIfAborted()
    hooks.onProgress?.(done++, name)
    await write()
  }
  hooks.onProgress?.(done, '')
}

function inputArguments(folder: string, threads: number): string[] {
  const paths = { model: 'model', adapter: 'adapter', pairs: 'pairs.safetensors' }
  const named = Object.entries(paths).flatMap(([name, path]) => [`--${name}`, join(folder, path)])
  return [...named, '--threads', String(threads)]
}

function ourVariants(folder: string, { dtype, threads, gemm }: StepBenchOptions): Variant[] {
  const worker = fileURLToPath(new URL('./worker.js', import.meta.url))
  const common = [...inputArguments(folder, threads), '--dtype', dtype, '--gemm', gemm]
  const kinds: EngineVariant[] = ['packed', 'cached', 'plain']
  return kinds.map((kind) => ({
    name: `ours-${kind}`,
    command: [process.execPath, worker, ...common, '--variant', kind],
  }))
}

function peerVariants(folder: string, python: string, { dtype, threads }: StepBenchOptions): Variant[] {
  const script = join(peerFolder, 'torch_step.py')
  const common = [...inputArguments(folder, threads), '--dtype', dtype === 'bf16' ? 'bfloat16' : 'float32', '--serve']
  return ['plain', 'lean'].map((kind) => ({
    name: `peer-${kind}`,
    command: [python, script, ...common, '--variant', kind],
  }))
}

/** Starts all processes and ends them again, whatever happens between. */
async function measure(variants: Variant[], rounds: number, hooks: StepBenchHooks): Promise<Series[]> {
  const servers: StepServer[] = []
  try {
    hooks.onStage?.('starting', variants.length, 'variants')
    const ready: ReadyMessage[] = []
    for (const { name, command } of variants) {
      hooks.onProgress?.(ready.length, name)
      const server = new StepServer(name, command, hooks.signal)
      servers.push(server)
      ready.push(await server.ready())
    }
    hooks.onProgress?.(ready.length, '')
    return await interleave(servers, ready, rounds, hooks)
  } finally {
    await Promise.all(servers.map((server) => server.close()))
  }
}

/** One step of each in turn, round after round. The first round warms up. */
async function interleave(
  servers: StepServer[],
  ready: ReadyMessage[],
  rounds: number,
  hooks: StepBenchHooks,
): Promise<Series[]> {
  let done = 0
  const step = async (server: StepServer, round: string): Promise<StepMessage> => {
    hooks.onProgress?.(done++, `${server.name}, ${round}`)
    return server.step()
  }
  hooks.onStage?.('measuring', servers.length * (rounds + 1), 'steps')
  const series: Series[] = []
  for (const [index, server] of servers.entries()) {
    const warmUp = await step(server, 'warm-up')
    series.push({ variant: server.name, ready: ready[index], warmUp, samples: [] })
  }
  for (let round = 0; round < rounds; round++) {
    // Each round starts with another variant, so that none always opens it.
    for (let turn = 0; turn < servers.length; turn++) {
      const index = (round + turn) % servers.length
      series[index].samples.push(await step(servers[index], `round ${round + 1}`))
    }
  }
  hooks.onProgress?.(done, '')
  return series
}

function describeCommand({ size, dtype, threads, rounds, gemm, python, seed }: StepBenchOptions): string {
  const named = Object.entries({ size, dtype, threads, rounds, gemm, seed }).map(
    ([name, value]) => `--${name} ${value}`,
  )
  return ['fire-train bench step', ...named, ...(python === null ? ['--no-peer'] : [])].join(' ')
}
