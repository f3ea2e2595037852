/** Which GPU is whose where several processes share a machine. */
import type { Device } from './device.js'
import { loadNative } from './load.js'
import type { NativeModule } from './native.js'

/**
 * The device of a rank where any GPU will do (`cuda`, `auto`): of the usable ones that of its place on the machine, in turn where
 * there are fewer. A device that is named stays.
 */
export function rankDevice(
  device: Device,
  ranks: { size: number; localRank: number } | undefined,
  native?: Pick<NativeModule, 'gpuReport'>,
): Device {
  const isAlone = !ranks || (ranks.size === 1 && ranks.localRank === 0)
  if (isAlone || (device !== 'cuda' && device !== 'auto')) return device
  const usable = (native ?? loadNative())
    .gpuReport()
    .gpus.flatMap(({ objection }, index) => (objection === '' ? [index] : []))
  return usable.length === 0 ? device : `cuda:${usable[ranks.localRank % usable.length]}`
}
