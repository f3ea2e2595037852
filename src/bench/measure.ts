/**
 * What the benchmarks of variants share: the inputs all of them read, a process for each, and rounds that interleave them,
 * so that whatever else the machine does falls on all alike.
 */
import { ArgumentError } from '../errors.js'
import { type PeerVersions, probePeer } from './peer.js'
import type { Measured, ReadyMessage } from './protocol.js'
import { StepServer } from './server.js'
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

/** @throws {ArgumentError} for what is not an integer of at least 1. */
export function checkCounts(counts: Record<string, number>): void {
  for (const [name, value] of Object.entries(counts)) {
    if (Number.isInteger(value) && value >= 1) continue
    throw new ArgumentError(`Expected an integer of at least 1 for ${name} but received ${value}`)
  }
}

/** Makes the files that all variants read, one part after the other. */
export async function writeInputs(
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
export async function findPeer(
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
export async function measure<T extends Measured>(
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
