/** Where a rank computes, so that those of one machine do not take the same GPU or the same threads. */
import { readFileSync } from 'node:fs'
import { availableParallelism, hostname } from 'node:os'
import type { Device, NativeModule } from '../engine/engine.js'
import { loadNative } from '../engine/load.js'

import { ConfigError, NoDeviceError } from '../errors.js'
import type { Neighbours, Place, Ranks } from './ranks.js'

export interface Seat {
  device: Device
  /** As in `EngineSpec`. */
  threads: number
  /** Ranks that share the memory of this machine. */
  localRanks: number
}

/**
 * Who shares this machine; every rank must call it.
 * @param seesGpus whether somebody may compute on a GPU: without, the driver is not asked.
 */
export async function meetNeighbours(
  ranks: Ranks,
  seesGpus: boolean,
  native?: Pick<NativeModule, 'gpuReport'>,
): Promise<Neighbours> {
  const gpus = seesGpus ? (native ?? loadNative()).gpuReport().gpus : []
  const own: Place = {
    host: hostname(),
    processors: processors(),
    gpus: gpus.map(({ uuid, objection }) => ({ uuid, isUsable: objection === '' })),
  }
  const all = await ranks.gather('places', own)
  const isLocal = ({ host }: Place): boolean => host === own.host
  return { places: all.filter(isLocal), index: all.slice(0, ranks.rank).filter(isLocal).length }
}

/**
 * One rank takes what its settings say. Of several on one machine each takes a GPU of its own, or its part of the threads.
 * @throws {ConfigError} when several of one machine would take one GPU; {NoDeviceError} when there are fewer GPUs than ranks.
 */
export async function seatOf(
  { device, threads }: { device: Device; threads: number },
  ranks: Ranks,
  native?: Pick<NativeModule, 'gpuReport'>,
): Promise<Seat> {
  if (ranks.size === 1 && !ranks.neighbours) return { device, threads, localRanks: 1 }
  const neighbours = ranks.neighbours ?? (await meetNeighbours(ranks, device !== 'cpu', native))
  const { places, index } = neighbours
  const own = places[index]
  const sharing = places.filter(({ processors }) => processors === own.processors).length
  return {
    device: isOnGpu(device, own) ? gpuOf(device, neighbours) : 'cpu',
    threads: threads > 0 ? threads : Math.max(1, Math.floor(availableParallelism() / sharing)),
    localRanks: places.length,
  }
}

const isOnGpu = (device: Device, { gpus }: Place): boolean =>
  device === 'auto' ? gpus.some(({ isUsable }) => isUsable) : device !== 'cpu'

function gpuOf(device: Device, { places, index }: Neighbours): Device {
  if (places.length === 1) return device
  const { host, gpus } = places[index]
  if (device !== 'cuda' && device !== 'auto') {
    throw new ConfigError(`device is ${device}, and ${places.length} ranks run on ${host}: all would take that GPU`, {
      hint: 'Use device: cuda; each rank then takes a GPU of its own.',
    })
  }
  const uuid = gpusOf(places)[index]
  // A starter may show each rank one GPU of its own, which is number 0 to it.
  if (uuid !== undefined) return `cuda:${gpus.findIndex((gpu) => gpu.uuid === uuid)}`
  const own = new Set(usable(places[index]))
  const sharing = places.filter(
    (place) => place === places[index] || usable(place).some((each) => own.has(each)),
  ).length
  throw new NoDeviceError(
    `${sharing} ranks run on ${host}, which shows them ${own.size} ${own.size === 1 ? 'GPU' : 'GPUs'} that can be used`,
    {
      detail: { host, ranks: sharing, gpus: own.size },
      hint: 'Start one rank for each GPU of a machine.',
    },
  )
}

const usable = ({ gpus }: Place): string[] => gpus.flatMap(({ uuid, isUsable }) => (isUsable ? [uuid] : []))

/** Each takes the first that it can use and that none before it took; every rank finds the same. */
function gpusOf(places: readonly Place[]): (string | undefined)[] {
  const taken = new Set<string>()
  return places.map((place) => {
    const first = usable(place).find((uuid) => !taken.has(uuid))
    if (first !== undefined) taken.add(first)
    return first
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
