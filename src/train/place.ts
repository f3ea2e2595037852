/** Where a rank computes, so that those of one machine do not take the same, and how its gradients reach the others. */
import { readFileSync } from 'node:fs'
import { availableParallelism, hostname } from 'node:os'
import type { Device, GroupSpec, NativeModule } from '../engine/engine.js'
import { loadNative } from '../engine/load.js'
import { ConfigError, NoDeviceError } from '../errors.js'
import { groupOf } from '../ranks/group.js'
import type { Ranks } from '../ranks/ranks.js'
import type { TrainConfig } from './settings.js'

export interface Place {
  device: Device
  /** As in `EngineSpec`. */
  threads: number
  /** Ranks that share the memory of this machine. */
  localRanks: number
  group: GroupSpec | null
}

/** What a rank says of where it runs. */
interface Seat {
  host: string
  /** Processors that it may use, as Linux writes them. */
  processors: string
  /** GPUs that it sees, and by which numbers. */
  gpus: number
  visible: string
}

/**
 * One rank takes what its configuration says. Of several on one machine each takes the GPU of its number there, and its part of the
 * threads.
 * @throws {RankError} when there is no way between the ranks; {ConfigError} when several of one machine would take one GPU;
 *   {NoDeviceError} when there are fewer GPUs than ranks.
 */
export async function placeOf(
  { device, threads }: Pick<TrainConfig, 'device' | 'threads'>,
  ranks: Ranks,
  given?: NativeModule,
): Promise<Place> {
  if (ranks.size === 1) return { device, threads, localRanks: 1, group: null }
  const native = given ?? loadNative()
  const gpus = device === 'cpu' ? [] : native.gpuReport().gpus
  const own: Seat = {
    host: hostname(),
    processors: processors(),
    gpus: gpus.length,
    visible: process.env.CUDA_VISIBLE_DEVICES ?? '',
  }
  const seats = await ranks.gather('places', own)
  const local = seats.filter(({ host }) => host === own.host)
  const onGpu = device === 'auto' ? gpus.some(({ objection }) => objection === '') : device !== 'cpu'
  const sharing = local.filter((seat) => seat.processors === own.processors).length
  return {
    device: onGpu ? gpuOf(device, ranks, own, local) : 'cpu',
    threads: threads > 0 ? threads : Math.max(1, Math.floor(availableParallelism() / sharing)),
    localRanks: local.length,
    group: await groupOf(ranks, native, { onGpu, transport: 'auto' }),
  }
}

function gpuOf(device: Device, { localRank }: Ranks, own: Seat, local: readonly Seat[]): Device {
  if (local.length === 1) return device === 'auto' ? 'cuda' : device
  if (device !== 'cuda' && device !== 'auto') {
    throw new ConfigError(
      `device is ${device}, and ${local.length} ranks run on ${own.host}: all would take that GPU`,
      {
        hint: 'Use device: cuda; each rank then takes the GPU of its number on its machine.',
      },
    )
  }
  // Where each was given one of its own, for instance by srun, that is number 0 to it.
  const isBound = own.gpus === 1 && new Set(local.map(({ visible }) => visible)).size === local.length
  if (isBound) return 'cuda:0'
  if (localRank < own.gpus) return `cuda:${localRank}`
  throw new NoDeviceError(`${local.length} ranks run on ${own.host}, which shows them ${own.gpus} GPUs`, {
    detail: { host: own.host, ranks: local.length, gpus: own.gpus },
    hint: 'Start one rank for each GPU of a machine.',
  })
}

/** The same text for processes that share their processors. */
function processors(): string {
  try {
    return /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? ''
  } catch {
    return ''
  }
}
