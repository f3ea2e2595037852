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
import { version } from '../version.js'
import { type Commit, describeCommit, describeLoad, describeMachine, type Machine, otherLoad } from './machine.js'
import { type BenchHooks, checkCounts, findPeer, measure, type Variant, writeInputs } from './measure.js'
import { writeAdapter, writeModel } from './model.js'
import { writePairs } from './pairs.js'
import type { PeerVersions } from './peer.js'
import { type EngineVariant, optimizer, publishedFire, type StepMessage } from './protocol.js'
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

/**
 * @throws {ArgumentError} for a count below 1, {BenchError} when a variant's process ends early; the
 *   reason of `signal` when that is aborted. Processes and the work folder are gone in every case.
 */
export async function benchStep(options: StepBenchOptions, hooks: BenchHooks = {}): Promise<StepBenchResult> {
  checkCounts({ threads: options.threads, rounds: options.rounds })
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
    const { size, seed } = options
    const spec = await readSpec(size)
    await writeInputs(
      `random ${size} model`,
      {
        model: () => writeModel(join(folder, 'model'), spec, seed, hooks.signal),
        adapter: () => writeAdapter(join(folder, 'adapter'), spec, seed),
        pairs: () => writePairs(join(folder, 'pairs.safetensors'), spec, seed),
      },
      hooks,
    )
    const variants = [...ourVariants(folder, options), ...(peer ? peerVariants(folder, peer.python, options) : [])]
    const series = await measure<StepMessage>(variants, options.rounds, hooks)
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

function describeCommand({ size, dtype, threads, rounds, gemm, python, seed }: StepBenchOptions): string {
  const named = Object.entries({ size, dtype, threads, rounds, gemm, seed }).map(
    ([name, value]) => `--${name} ${value}`,
  )
  return ['fire-train bench step', ...named, ...(python === null ? ['--no-peer'] : [])].join(' ')
}
