/** Twelve pairs and the reference checkpoint, for training with the real engine: one world for all tests of a file. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll } from 'vitest'
import { stringify } from 'yaml'
import { resolveTrainConfig } from '../../src/train/config.js'
import type { TrainConfig, TrainConfigInput } from '../../src/train/settings.js'
import { runCommand } from '../command.js'
import { type World, writeGoldenModel, writeWorld } from '../fakes/world.js'

export let world: World

beforeAll(async () => {
  world = await writeWorld(12, writeGoldenModel)
})

export const settings = (output: string, changes: Partial<TrainConfigInput> = {}): TrainConfigInput => ({
  model: world.model,
  data: { train: world.pairs },
  output: join(world.root, output),
  threads: 1,
  lora: { rank: 8, alpha: 16 },
  optimizer: { lr: 1e-3 },
  batchSize: 4,
  microBatchSize: 2,
  epochs: 2,
  checkpoint: { every: 1, keep: 2 },
  ...changes,
})

export const config = (output: string, changes?: Partial<TrainConfigInput>): TrainConfig =>
  resolveTrainConfig(settings(output, changes))

export const weightsOf = ({ output }: { output: string }, name = 'adapter') =>
  readFile(join(output, name, 'adapter_model.safetensors'))

/** Starts or continues a run once for each delay, and kills it so many ms after it said that it trains. @returns kills */
export async function killTraining(output: string, changes: Partial<TrainConfigInput>, delays: number[]) {
  const path = join(world.root, `${output}.yaml`)
  await writeFile(path, stringify(settings(output, changes)))
  let kills = 0
  for (const delay of delays) {
    const onStderr = (text: string, kill: (signal: NodeJS.Signals) => void): void => {
      if (/^train: /m.test(text)) setTimeout(() => kill('SIGKILL'), delay)
    }
    const { signal } = await runCommand(['train', path, '--resume'], { onStderr })
    if (signal === 'SIGKILL') kills += 1
  }
  return kills
}
