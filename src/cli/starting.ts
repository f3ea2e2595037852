/** Who starts the ranks of a command where nobody says it. */
import type { NativeModule } from '../engine/engine.js'
import type { Starting } from '../ranks/launcher.js'
import { readArguments, split } from './arguments.js'

/**
 * MPI adds up gradients on CPUs, and needs mpirun; NCCL, and work without gradients, do not.
 * @throws {ArgumentError} {ConfigError} for a training that no rank could begin.
 */
export async function startingOf(
  words: readonly string[],
  native?: Pick<NativeModule, 'gpuReport'>,
): Promise<Starting> {
  const { name, before, after } = split(words)
  if (name !== 'train') return 'processes'
  const { train } = await import('./commands/train.js')
  const { common, trees } = readArguments([...before, ...after], train)
  if (common.help) return 'processes'
  const { loadTrainConfig } = await import('../train/config.js')
  const [{ config, set }] = trees as { config: string; set?: string[] }[]
  const { device } = await loadTrainConfig(config, set)
  if (device !== 'auto') return device === 'cpu' ? 'mpirun' : 'processes'
  const { loadNative } = await import('../engine/load.js')
  const { gpus } = (native ?? loadNative()).gpuReport()
  return gpus.some(({ objection }) => objection === '') ? 'processes' : 'mpirun'
}
