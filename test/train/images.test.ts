/** The images of a run: each encoded once while the cache holds it, those of the next step prepared while one runs. */
import { writeFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeEach, describe, expect, it } from 'vitest'
import type { NativeEngine, NativeModule } from '../../src/engine/native.js'
import type { TrainConfigInput } from '../../src/train/settings.js'
import { train } from '../../src/train/train.js'
import { fakeNative, type World, writeWorld } from '../fakes/world.js'
import { configOf, run } from './fake-runs.js'
import { repeatableRows } from './rows.js'

let world: World

beforeEach(async () => {
  world = await writeWorld(13)
})

const config = (output: string, changes: Partial<TrainConfigInput> = {}) => configOf(world, output, changes)

/** The engine, and what is asked of it: calls with the images they name. Steps take long enough for images to be read. */
function watched(): { native: NativeModule; events: [call: string, image: string][] } {
  const native = fakeNative()
  const open = native.openEngine.bind(native)
  const events: [string, string][] = []
  const openEngine = async (...args: Parameters<typeof open>): Promise<NativeEngine> => {
    const engine = await open(...args)
    const { prepareImages, encodeImages, accumulate, update } = engine
    return Object.assign(engine, {
      prepareImages(...args: Parameters<typeof prepareImages>) {
        for (const { id } of args[0]) events.push(['prepare', id])
        return prepareImages.apply(engine, args)
      },
      encodeImages(...args: Parameters<typeof encodeImages>) {
        for (const { id } of args[0]) events.push(['encode', id])
        return encodeImages.apply(engine, args)
      },
      async accumulate(...args: Parameters<typeof accumulate>) {
        await sleep(200)
        return accumulate.apply(engine, args)
      },
      update(...args: Parameters<typeof update>) {
        events.push(['update', ''])
        return update.apply(engine, args)
      },
    })
  }
  return { native: { ...native, openEngine }, events }
}

describe('images of a run', () => {
  it('encodes an image once while the cache holds it, and again when it does not', async () => {
    const native = fakeNative()
    await train(config('wide'), { native })
    await train(config('narrow', { imageCache: 1 }), { native })
    // Each run plans with an engine that computes nothing, then trains with another.
    const [wide, narrow] = native.engines.filter((engine) => !engine.spec.planOnly)
    expect(native.engines.map((engine) => engine.closed)).toEqual([true, true, true, true])
    expect(wide.encoded).toBe(6)
    expect(narrow.encoded).toBeGreaterThan(6)
    expect(narrow.images.size).toBeLessThanOrEqual(6)
  })

  it('prepares the images of the next step while one runs, and none for a step that does not come', async () => {
    const { native, events } = watched()
    await train(config('ahead', { batchSize: 2, microBatchSize: 2, maxSteps: 3, imageCache: 4 }), { native })
    const updates = events.flatMap(([call], index) => (call === 'update' ? [index] : []))
    expect(updates).toHaveLength(3)
    const encodedLater = events.flatMap(([call, id], index) =>
      call === 'encode' && index > updates[0] ? [{ id, step: updates.filter((update) => update < index).length }] : [],
    )
    expect(encodedLater.length).toBeGreaterThan(0)
    for (const { id, step } of encodedLater) {
      const before = events.slice(step > 1 ? updates[step - 2] : 0, updates[step - 1])
      expect(before).toContainEqual(['prepare', id])
    }
    const ids = (wanted: string) => events.flatMap(([call, id]) => (call === wanted ? [id] : [])).sort()
    expect(ids('prepare')).toEqual(ids('encode'))
  })

  it('names an image that was damaged meanwhile in the step that needs it, and keeps the steps before', async () => {
    const { native, events } = watched()
    const changes = { batchSize: 1, microBatchSize: 1, imageCache: 6, maxSteps: 6, checkpoint: { every: 1, keep: 1 } }
    const whole = config('whole', changes)
    await run(whole, { native })
    const seen = events.filter(([call]) => call !== 'prepare')
    const last = seen.findLast(([call]) => call === 'encode')?.[1]
    const done = seen
      .slice(
        0,
        seen.findIndex(([, id]) => id === last),
      )
      .filter(([call]) => call === 'update').length
    expect(done).toBeGreaterThan(0)

    const images = world.records.flatMap(({ images, corrupted }) => [...images, ...(corrupted?.images ?? [])])
    const path = join(world.root, images.find(({ sha256 }) => sha256 === last)?.path as string)
    const bytes = await readFile(path)
    const settings = config('damaged', changes)
    const onStart = () => writeFileSync(path, bytes.subarray(0, 60))
    await expect(run(settings, { onStart })).rejects.toThrow(path)
    expect(await repeatableRows(settings)).toEqual((await repeatableRows(whole)).slice(0, done))
    await writeFile(path, bytes)
    expect(await run(settings, { resume: true })).toMatchObject({ resumedFrom: done, interrupted: false })
    expect(await repeatableRows(settings)).toEqual(await repeatableRows(whole))
  })
})
