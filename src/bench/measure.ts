/**
 * What the benchmarks of variants share: the inputs all of them read, a process for each, and rounds that interleave them,
 * so that whatever else the machine does falls on all alike.
 */

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { z } from 'zod'
import { BenchError, throwIfAborted } from '../errors.js'
import { flagOf, identityOf, settingsOf, valueAt } from '../settings/setting.js'
import type { Progress } from '../stage/index.js'
import { version } from '../version.js'
import { type Commit, describeCommit, describeLoad, describeMachine, type Machine, otherLoad } from './machine.js'
import { type PeerName, type PeerVersions, peerModules, probePeer } from './peer.js'
import type { Measured, ReadyMessage } from './protocol.js'
import { StepServer } from './server.js'
import { peerFolder } from './spec.js'
import type { Series } from './summary.js'

/** Notes, such as a peer that was skipped, are logged. */
export type BenchHooks = { signal?: AbortSignal; progress?: Progress }

export interface Variant {
  name: string
  command: string[]
}

/** Of every result: where it was measured, and how it is measured again. */
export interface BenchRun {
  benchmark: string
  date: string
  /** The command that measures this again. */
  command: string
  version: string
  commit: Commit | null
  machine: Machine
  versions: { node: string; peer: PeerVersions | null }
  /** What decides the figures. */
  settings: Record<string, unknown>
  /** One-minute load average before the first process started, and what other work added to it at the end. */
  load: { before: number; othersAfter: number }
  notes: string[]
}

/** What tells one benchmark from another. */
export interface Benchmark<Settings> {
  name: string
  schema: z.ZodType
  settings: Settings
  /** Whether somebody asked for this peer; one that is measured by default is left out where it cannot run. */
  isPeerNamed: boolean
  /** Of the files that all variants read. */
  title: string
  /** The files, by what they are. */
  inputs(folder: string): Record<string, () => Promise<void>>
  ours(folder: string): Variant[]
  peer(folder: string, python: string): Variant[]
}

/**
 * Runs a benchmark in a folder of its own.
 * @throws {BenchError} when a variant's process ends early, or a peer that was named cannot run; the reason of `signal` when that is aborted.
 *   Processes and the work folder are gone in every case.
 */
export async function conduct<T extends Measured>(
  { name, schema, settings, isPeerNamed, title, inputs, ours, peer }: Benchmark<SharedSettings>,
  hooks: BenchHooks,
): Promise<BenchRun & { series: Series<T>[] }> {
  const { threads, rounds } = settings
  const notes: string[] = []
  const note = (line: string | null): void => {
    if (line === null) return
    notes.push(line)
    hooks.progress?.log(line)
  }
  const date = new Date().toISOString()
  // Read now: the files may change while the machine measures.
  const commit = await describeCommit()
  const machine = describeMachine()
  const versions =
    settings.peer === 'none' ? null : await findPeer(settings.peer, settings.python, isPeerNamed ? undefined : note)
  const before = otherLoad(0)
  note(describeLoad(before, 'before the run'))
  const folder = await mkdtemp(join(tmpdir(), 'fire-train-bench-'))
  try {
    await writeInputs(title, inputs(folder), hooks)
    const variants = [...ours(folder), ...(versions ? peer(folder, settings.python) : [])]
    const series = await measure<T>(variants, rounds, hooks)
    // Variants take turns, so the benchmark itself keeps at most its threads busy.
    const othersAfter = otherLoad(threads)
    note(describeLoad(othersAfter, 'of others after the run'))
    return {
      benchmark: name,
      date,
      command: commandOf(name, schema, isPeerNamed ? settings : { ...settings, peer: undefined }),
      version,
      commit,
      machine,
      versions: { node: process.version, peer: versions },
      settings: identityOf(schema, settings),
      load: { before, othersAfter },
      notes,
      series,
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

interface SharedSettings {
  threads: number
  rounds: number
  peer: PeerName | 'none'
  python: string
}

function commandOf(name: string, schema: z.ZodType, settings: object): string {
  const flags = settingsOf(schema).flatMap((setting) => {
    const value = valueAt(settings, setting.path)
    if (setting.meta.free || setting.meta.path || value === undefined) return []
    return [`--${flagOf(setting)} ${value}`]
  })
  return [`fire-train bench ${name}`, ...flags].join(' ')
}

/** Makes the files that all variants read, one part after the other. */
async function writeInputs(
  title: string,
  parts: Record<string, () => Promise<void>>,
  hooks: BenchHooks,
): Promise<void> {
  let done = 0
  hooks.progress?.start(title, Object.keys(parts).length, 'parts')
  for (const [name, write] of Object.entries(parts)) {
    throwIfAborted(hooks.signal)
    hooks.progress?.update(done++, name)
    await write()
  }
  hooks.progress?.update(done, '')
}

/**
 * The versions of the peer; `null`, with a note, when it cannot run and may be left out.
 * @param note where it may not: undefined.
 */
async function findPeer(
  peer: PeerName,
  python: string,
  note: ((line: string) => void) | undefined,
): Promise<PeerVersions | null> {
  const found = await probePeer(peer, python)
  if ('versions' in found) return found.versions
  const why = `${python} cannot import ${peerModules[peer].join(', ')} (${found.missing})`
  const install = `${python} -m pip install -r ${join(peerFolder, 'requirements.txt')}`
  if (note === undefined) {
    throw new BenchError(`The peer ${peer} cannot run: ${why}`, {
      detail: { peer, python },
      hint: `Install it with ${install}, or name an interpreter that has it with --python, or leave out --peer.`,
    })
  }
  note(`peer skipped: ${why}; install it with ${install}, or name an interpreter with --python`)
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
    hooks.progress?.start('starting', variants.length, 'variants')
    const ready: ReadyMessage[] = []
    for (const { name, command } of variants) {
      hooks.progress?.update(ready.length, name)
      const server = new StepServer(name, command, hooks.signal)
      servers.push(server)
      ready.push(await server.ready())
    }
    hooks.progress?.update(ready.length, '')
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
    hooks.progress?.update(done++, `${server.name}, ${round}`)
    return server.step<T>()
  }
  hooks.progress?.start('measuring', servers.length * (rounds + 1), 'steps')
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
  hooks.progress?.update(done, '')
  return series
}
