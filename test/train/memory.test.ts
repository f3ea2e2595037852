/** What of the memory is decided before the first step: whether layers are recomputed, and for which micro-batches room is made. */
import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { CudaError, DataError, OutOfMemoryError } from '../../src/errors.js'
import { resolveTrainConfig } from '../../src/train/config.js'
import { featureBytes } from '../../src/train/memory.js'
import { PairOrder } from '../../src/train/order.js'
import { planTraining } from '../../src/train/plan.js'
import type { TrainConfig, TrainConfigInput } from '../../src/train/settings.js'
import { train } from '../../src/train/train.js'
import { fakeNative, makePair, type World, writePairs, writeWorld } from '../fakes/world.js'

let world: World

beforeEach(async () => {
  world = await writeWorld(5)
})

function config(output: string, changes: Partial<TrainConfigInput> = {}): TrainConfig {
  return resolveTrainConfig({
    model: world.model,
    data: { train: world.pairs },
    output: join(world.root, output),
    device: 'cuda',
    dtype: 'bf16',
    batchSize: 5,
    microBatchSize: 1,
    maxSteps: 1,
    ...changes,
  })
}

afterEach(() => {
  vi.restoreAllMocks()
})

describe('checkpointing: auto on a GPU', () => {
  it.each([
    ['fits into what is free', 1, false],
    ['does not fit into what others leave free, however large the card is', -1, true],
  ])('a step that %s', async (_, more, checkpointing) => {
    const { memory } = await planTraining(config('plan'), { native: fakeNative() })
    const native = fakeNative()
    // The engine, and what is kept free for CUDA's own later needs.
    const freeBytes = memory.peak.device + 256 * 2 ** 20 + more
    const asked = vi.spyOn(native, 'gpuMemory').mockReturnValue({ freeBytes, totalBytes: 80e9 })
    const report = await train(config(`free ${more}`, { checkpointing: 'auto', device: 'cuda:1' }), { native })
    expect(report.checkpointing).toBe(checkpointing)
    expect(asked.mock.calls).toEqual([['cuda:1']])
  })
})

describe('room is made before the first step', () => {
  it('for the micro-batches of the most rows, the most scored tokens and the most image tokens', async () => {
    const bytes = await sharp({ create: { width: 96, height: 96, channels: 3, background: 'grey' } })
      .png()
      .toBuffer()
    await writeFile(join(world.root, 'large.png'), bytes)
    const image = { path: 'large.png', sha256: createHash('sha256').update(bytes).digest('hex'), width: 96, height: 96 }
    const [chosen, rejected] = ['left '.repeat(12).trim(), 'right '.repeat(12).trim()]
    await writePairs(world.pairs, [
      ...world.records,
      makePair('most rows', { images: world.records[0].images, prompt: 'Where is it? '.repeat(40) }),
      makePair('most scored', {
        chosen,
        rejected,
        edits: [{ chosen: [0, chosen.length], rejected: [0, rejected.length], category: 'side' }],
      }),
      makePair('most image tokens', { images: [image] }),
    ])
    const native = fakeNative()
    await train(config('reserved', { batchSize: 8 }), { native })
    const engine = native.engines.find(({ spec }) => !spec.planOnly)
    expect(engine?.reserved).toEqual([['most rows'], ['most scored'], ['most image tokens']])
  })

  it('for the features of the largest images that may be held at once, which a plan counts exactly', async () => {
    for (const imageCache of [1, 2, 100]) {
      const native = fakeNative()
      const settings = config(`images ${imageCache}`, { imageCache, batchSize: 8 })
      const { memory } = await planTraining(settings, { native })
      await train(settings, { native })
      const engine = native.engines.find(({ spec, reservedImages }) => !spec.planOnly && reservedImages)
      const tokens = engine?.reservedImages ?? []
      expect(tokens).toHaveLength(Math.min(Math.max(imageCache, 2), 6)) // a pair has two
      expect(tokens).toEqual([...tokens].sort((a, b) => b - a))
      expect(memory.images.features).toBe(featureBytes(tokens, { featureBytesPerToken: 8, featureUnitBytes: 8 }))
    }
    // Each image by itself, in whole units: nothing lies between them, and a large one does not make others larger.
    expect(featureBytes([100, 3, 1], { featureBytesPerToken: 100, featureUnitBytes: 256 })).toBe(10240 + 512 + 256)
  })

  it('for what an evaluation reads with another objective', async () => {
    const native = fakeNative()
    const data = { train: world.pairs, eval: world.pairs }
    await train(config('likelihood', { data, evalEvery: 1, objective: { name: 'dpo' } }), { native })
    const engine = native.engines.find(({ spec }) => !spec.planOnly)
    expect(engine?.reservedToEvaluate?.objective).toBe('fire')
    expect(engine?.reservedToEvaluate?.ids.length).toBeGreaterThan(0)
  })
})

describe('what fails while memory is decided', () => {
  it('leaves no engine open', async () => {
    vi.spyOn(PairOrder.prototype, 'of').mockImplementation(() => {
      throw new DataError('no such step')
    })
    const native = fakeNative()
    await expect(train(config('fails'), { native })).rejects.toThrow('no such step')
    expect(native.engines.map(({ closed }) => closed)).toEqual([true])
  })

  it('is the error that is shown, though the engine cannot be closed', async () => {
    const native = fakeNative()
    const open = native.openEngine.bind(native)
    native.openEngine = async (spec, cancel) => {
      const engine = await open(spec, cancel)
      if (spec.planOnly) return engine
      engine.reserve = () => Promise.reject(new OutOfMemoryError('no 3 GiB'))
      engine.close = () => Promise.reject(new CudaError('the device is lost'))
      return engine
    }
    await expect(train(config('too large'), { native })).rejects.toThrow('no 3 GiB')
  })
})
