import { availableParallelism, cpus, freemem, totalmem } from 'node:os'
import { z } from 'zod'
import type { CpuInfo, Device, GpuMemory, GpuReport, Transports } from '../../engine/engine.js'
import { FireError } from '../../errors.js'
import { version } from '../../version.js'
import { defineCommand } from '../command.js'
import { formatBytes } from '../format.js'

export const doctor = defineCommand({
  name: 'doctor',
  ranks: 'each',
  summary: 'Show what this machine offers and what the engine will use',
  settings: z.strictObject({}),
  async run() {
    const report = { ...machine(), engine: await engine() }
    return { text: describe(report), report, exitCode: 'error' in report.engine ? 1 : 0 }
  },
})

interface Machine {
  version: string
  node: string
  platform: string
  cpu: string
  logicalCores: number
  usableCores: number
  memory: number
  freeMemory: number
}

type EngineState =
  | {
      version: string
      from: string
      cpu: CpuInfo
      gpu: GpuReport
      gpuMemory: (GpuMemory | null)[]
      gpuKernels: (string | null)[]
      transports: Transports
    }
  | { error: string; hint: string | undefined }

function machine(): Machine {
  return {
    version,
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: cpus()[0]?.model ?? 'unknown',
    logicalCores: cpus().length,
    usableCores: availableParallelism(),
    memory: process.constrainedMemory() > 0 ? Math.min(process.constrainedMemory(), totalmem()) : totalmem(),
    freeMemory: freemem(),
  }
}

async function engine(): Promise<EngineState> {
  try {
    const { findNative } = await import('../../engine/load.js')
    const { thisMachine, whyNoGpu } = await import('../../engine/prebuilt.js')
    const { native, from } = findNative()
    const gpu = native.gpuReport()
    if (gpu.gpus.length === 0) gpu.reason = whyNoGpu(from, thisMachine()) ?? gpu.reason
    const ofEach = <T>(ask: (device: Device) => T): (T | null)[] =>
      gpu.gpus.map(({ objection }, index) => (objection === '' ? orNull(() => ask(`cuda:${index}`)) : null))
    return {
      ...{ version: native.version, from, cpu: native.cpuInfo(), gpu },
      gpuMemory: ofEach((device) => native.gpuMemory(device)),
      gpuKernels: ofEach((device) => native.gpuKernels(device)),
      transports: native.transports(),
    }
  } catch (error) {
    if (!(error instanceof FireError)) throw error
    return { error: error.message, hint: error.hint }
  }
}

/** `null` where CUDA cannot be opened on a GPU: that is what a run would say too. */
function orNull<T>(ask: () => T): T | null {
  try {
    return ask()
  } catch (error) {
    if (!(error instanceof FireError)) throw error
    return null
  }
}

function describe({ engine, ...machine }: Machine & { engine: EngineState }): string {
  const lines = [
    ['fire-train', machine.version],
    ['node', `${machine.node}, ${machine.platform}`],
    ['processor', `${machine.cpu}, ${machine.usableCores} of ${machine.logicalCores} cores usable`],
    ['memory', `${formatBytes(machine.memory)}, ${formatBytes(machine.freeMemory)} free`],
  ]
  if ('error' in engine) {
    lines.push(['engine', engine.error])
    if (engine.hint) lines.push(['', engine.hint])
  } else {
    const usable = engine.gpu.gpus.flatMap(({ objection }, index) => (objection === '' ? [`cuda:${index}`] : []))
    lines.push(['engine', `${engine.version}, device ${['cpu', ...usable].join(', ')}`])
    lines.push(['loaded from', engine.from])
    lines.push(['instructions', engine.cpu.isa.join(' ')])
    lines.push(['kernel', engine.cpu.kernel])
    for (const gpu of describeGpus(engine.gpu, engine.gpuMemory, engine.gpuKernels)) lines.push(['gpu', gpu])
    lines.push(['cuBLASLt', engine.gpu.cublaslt])
    lines.push(['oneDNN', `${engine.cpu.onednn.available ? 'found' : 'not used'}: ${engine.cpu.onednn.detail}`])
    for (const [transport, name] of ranksBy) lines.push([name, describeTransport(engine.transports[transport])])
  }
  return `${lines.map(([name, value]) => `${name.padEnd(13)}${value}`).join('\n')}\n`
}

/** What adds up the gradients of several ranks. */
const ranksBy = [
  ['nccl', 'NCCL'],
  ['mpi', 'MPI'],
] as const

function describeTransport(found: Transports['nccl']): string {
  return 'version' in found ? `found: ${found.version}` : `not used: ${found.missing}`
}

function describeGpus({ gpus, reason }: GpuReport, memory: (GpuMemory | null)[], kernels: (string | null)[]): string[] {
  if (gpus.length === 0) return [`none: ${reason}`]
  return gpus.map(({ name, capability, totalBytes, objection }, index) => {
    const free = memory[index]
    const bytes = free ? `${formatBytes(totalBytes)}, ${formatBytes(free.freeBytes)} free` : formatBytes(totalBytes)
    const open = kernels[index] ? `kernels for ${kernels[index]}` : 'it could not be opened'
    return `cuda:${index} ${name}, ${capability}, ${bytes}; ${objection === '' ? open : `it ${objection}`}`
  })
}
