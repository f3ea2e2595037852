/**
 * What the benchmarks of variants share: the inputs all of them read, a process for each, and rounds that interleave them,
 * so that whatever else the machine does falls on all alike.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ArgumentError } from '../errors.js'
import { version } from '../version.js'
import { type Commit, describeCommit, describeLoad, describeMachine, type Machine, otherLoad } from './machine.js'
import { type PeerVersions, probePeer } from './peer.js'
import type { Measured, ReadyMessage } from './protocol.js'
import { StepServer } from './server.js'
import { type BenchSize, type BenchSpec, readSpec } from './spec.js'
import type { Series } from './summary.js'

export interface BenchHooks {
  /** A line for the person: a peer that was skipped, other work on the machine. */
  onNote?: (line: string) => void
  /** A part of the run begins: making the inputs, starting the processes, taking the steps. */
  onStage?: (title: string, total: number, unit: string) => void
  /** `done` units of the stage are finished, and what is under way. */
  onProgress?: (done: number, status: string) => void
  signal?: AbortSignal
}

export interface Variant {
  name: string
  command: string[]
}

export interface RunOptions {
  size: BenchSize
  /** Of every variant; at least 1. */
  threads: number
  /** Timed rounds, after one that warms up. */
  rounds: number
  /** Interpreter of the peer; `null` leaves the peer out. */
  python: string | null
}

/** What a result says of the run it comes from. */
export interface RunFacts {
  date: string
  version: string
  commit: Commit | null
  machine: Machine
  versions: { node: string; peer: PeerVersions | null }
  /** One-minute load average before the first process started, and what other work added to it at the end. */
  load: { before: number; othersAfter: number }
  notes: string[]
}

/** What a benchmark measures, in a folder that goes away after it. */
export interface Measurement {
  /** Writes what all variants read, by the name of each part. */
  inputs(folder: string, spec: BenchSpec): Record<string, () => Promise<void>>
  /** @param python of the peer, where there is one. */
  variants(folder: string, python: string | undefined): Variant[]
}

/**
 * @throws {BenchError} when a variant's process ends early; the reason of `signal` when that is aborted. Processes and the
 *   folder are gone in every case.
 */
export async function runVariants<T extends Measured>(
  { size, threads, rounds, python }: RunOptions,
  hooks: BenchHooks,
  measurement: Measurement,
): Promise<{ facts: RunFacts; series: Series<T>[] }> {
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
  const peer = python === null ? null : await findPeer(python, note)
  const before = otherLoad(0)
  note(describeLoad(before, 'before the run'))
  const folder = await mkdtemp(join(tmpdir(), 'fire-train-bench-'))
  try {
    await writeInputs(`random ${size} model`, measurement.inputs(folder, await readSpec(size)), hooks)
    const series = await measure<T>(measurement.variants(folder, peer?.python), rounds, hooks)
    // Steps come one after another, so the benchmark itself keeps at most its threads busy.
    const othersAfter = otherLoad(threads)
    note(describeLoad(othersAfter, 'of others after the run'))
    const versions = { node: process.version, peer: peer?.versions ?? null }
    return { facts: { date, version, commit, machine, versions, load: { before, othersAfter }, notes }, series }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** The command that measures this again; settings are flags, `newTokens` is `--new-tokens`. */
export function describeCommand(benchmark: string, { python, ...settings }: RunOptions): string {
  const flags = Object.entries(settings).map(([name, value]) => {
    return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} ${value}`
  })
  return ['fire-train bench', benchmark, ...flags, ...(python === null ? ['--no-peer'] : [])].join(' ')
}

/** @throws {ArgumentError} for what is not an integer of at least 1. */
export function checkCounts(counts: Record<string, number>): void {
  for (const [name, value] of Object.entries(counts)) {
    if (Number.isInteger(value) && value >= 1) continue
    throw new ArgumentError(`Expected an integer of at least 1 for ${name} but received ${value}`)
  }
}

/** Makes the files that all variants read, one part after the other. */
async function writeInputs(
  title: string,
  parts: Record<string, () => Promise<void>>,
  hooks: BenchHooks,
): Promise<void> {
  let done = 0
  hooks.onStage?.(title, Object.keys(parts).length, 'parts')
  for (const [name, write] of Object.entries(parts)) {
    hooks.signal?.throwIfAborted()
    hooks.onProgress?.(done++, name)
    await write()
  }
  hooks.onProgress?.(done, '')
}

/** The versions of the peer; `null`, with a note, when it cannot run. */
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

/** Starts all processes and ends them again, whatever happens between. */
async function measure<T extends Measured>(
  variants: Variant[],
  rounds: number,
  hooks: BenchHooks,
): Promise<Series<T>[]> {
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
async function interleave<T extends Measured>(
  servers: StepServer[],
  ready: ReadyMessage[],
  rounds: number,
  hooks: BenchHooks,
): Promise<Series<T>[]> {
  let done = 0
  const step = async (server: StepServer, round: string): Promise<T> => {
    hooks.onProgress?.(done++, `${server.name}, ${round}`)
    return server.step<T>()
  }
  hooks.onStage?.('measuring', servers.length * (rounds + 1), 'steps')
  const series: Series<T>[] = []
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
