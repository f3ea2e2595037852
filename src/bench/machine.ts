/** Where a measurement was made: processor, memory, versions, commit, and whether anything else was running. */
import { execFile } from 'node:child_process'
import { realpath } from 'node:fs/promises'
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { CpuInfo } from '../engine/engine.js'
import { loadNative } from '../engine/load.js'

const execute = promisify(execFile)
const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

/** A load average above this means that more than the benchmark is at work. */
const quietLoad = 0.5

export interface Machine {
  cpu: string
  logicalCores: number
  usableCores: number
  isa: string[]
  kernel: string
  onednn: CpuInfo['onednn']
  memoryBytes: number
}

export function describeMachine(): Machine {
  const { model, isa, kernel, onednn } = loadNative().cpuInfo()
  const limit = process.constrainedMemory()
  return {
    cpu: model,
    logicalCores: cpus().length,
    usableCores: availableParallelism(),
    isa,
    kernel,
    onednn,
    memoryBytes: limit > 0 ? Math.min(limit, totalmem()) : totalmem(),
  }
}

export interface Commit {
  sha: string
  /** Something besides recorded results differs from the commit. */
  dirty: boolean
}

/** The commit of this package's checkout; `null` when it is not one, or git is absent. */
export async function describeCommit(): Promise<Commit | null> {
  const git = async (...args: string[]): Promise<string> =>
    (await execute('git', ['-C', packageRoot, ...args])).stdout.trim()
  try {
    // An installed package may lie inside somebody else's checkout.
    if ((await git('rev-parse', '--show-toplevel')) !== (await realpath(packageRoot))) return null
    const changes = await git('status', '--porcelain', '--', '.', ':!bench/results')
    return { sha: await git('rev-parse', 'HEAD'), dirty: changes !== '' }
  } catch {
    return null
  }
}

/** The one-minute load average, less what the benchmark itself adds to it. */
export function otherLoad(ownThreads: number): number {
  return Math.max(0, loadavg()[0] - ownThreads)
}

/** A line for people when other work disturbs the measurement, else `null`. */
export function describeLoad(load: number, when: string): string | null {
  if (load <= quietLoad) return null
  return (
    `warning: the load average ${when} is ${load.toFixed(1)}, so other work is running: ` +
    'read ratios within a round, not seconds'
  )
}
