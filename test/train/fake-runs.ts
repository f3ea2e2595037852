/** Runs on the fake engine: the settings of a small run in a world, and training with them. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { resolveTrainConfig } from '../../src/train/config.js'
import type { TrainConfig, TrainConfigInput } from '../../src/train/settings.js'
import { type TrainOptions, train } from '../../src/train/train.js'
import { fakeNative, type World } from '../fakes/world.js'

export function configOf(world: World, output: string, changes: Partial<TrainConfigInput> = {}): TrainConfig {
  return resolveTrainConfig({
    model: world.model,
    data: { train: world.pairs },
    output: join(world.root, output),
    optimizer: { lr: 0.05 },
    epochs: 2,
    batchSize: 4,
    microBatchSize: 3,
    checkpoint: { every: 3, keep: 2 },
    ...changes,
  })
}

export const run = (settings: TrainConfig, options: TrainOptions = {}) =>
  train(settings, { native: fakeNative(), ...options })

export const adapterOf = (settings: TrainConfig) =>
  readFile(join(settings.output, 'adapter', 'adapter_model.safetensors'), 'utf8')
