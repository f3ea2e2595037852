/** `data.evalShare`: which images it holds out, and where an adapter has seen them before. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { sha256 } from '../../src/data/files.js'
import type { Example } from '../../src/train/collate.js'
import { resolveTrainConfig } from '../../src/train/config.js'
import { shareOf, splitByImage } from '../../src/train/held-out.js'
import { train } from '../../src/train/train.js'
import { fakeNative, writeImage, writePairs, writeWorld } from '../fakes/world.js'

describe('a share of the images', () => {
  it('holds out about the share of many images, and the same image beside any other', () => {
    const example = (...names: string[]) => ({ input: { id: names.join(), images: names.map(sha256) } }) as Example
    const many = Array.from({ length: 2000 }, (_, i) => example(`image ${i}`))
    const { heldOut, trained } = splitByImage(many, 0.1)
    // Three standard deviations of a draw.
    expect(Math.abs(heldOut.length - 200)).toBeLessThan(3 * Math.sqrt(2000 * 0.1 * 0.9))
    expect(splitByImage(many.slice(700), 0.1).heldOut).toEqual(heldOut.filter((each) => many.indexOf(each) >= 700))
    expect(splitByImage(many, 0.3).heldOut).toEqual(expect.arrayContaining(heldOut))
    const both = { input: { id: 'both', images: [...heldOut[0].input.images, ...trained[0].input.images] } } as Example
    const joined = splitByImage([...many, both], 0.1)
    expect(joined.heldOut.includes(heldOut[0])).toBe(joined.heldOut.includes(both))
    expect(joined.heldOut.includes(trained[0])).toBe(joined.heldOut.includes(both))
  })

  it('is warned of unless every run behind the adapter held out as many images, and each pair has one', async () => {
    const world = await writeWorld(13)
    const seen = /the adapter of lora\.init may have been trained on images that are held out now: (.*); data\.eval/
    const images = await Promise.all(
      [0, 1, 2, 3, 4].map((index) => writeImage(world.root, `own${index}.png`, 40 + index)),
    )
    const places = images
      .map(({ sha256 }) => shareOf([{ input: { images: [sha256] } } as Example]))
      .sort((a, b) => a - b)
    const [small, large] = [(places[0] + places[1]) / 2, (places[2] + places[3]) / 2]
    const records = world.records.map((record, i) => ({ ...record, images: [images[i % 5]], corrupted: undefined }))
    await writePairs(world.pairs, records)
    const trainOn = async (output: string, init: string | null, evalShare: number | null) => {
      const data = { train: world.pairs, evalShare }
      const lora = { init: init && join(world.root, init, 'adapter') }
      const settings = { model: world.model, output: join(world.root, output), data, maxSteps: 1, lora }
      const { warnings } = await train(resolveTrainConfig(settings), { native: fakeNative() })
      return seen.exec(warnings.join('\n'))?.[1]
    }
    const unknown = 'no run of it is known that held out as large a share'
    expect(await trainOn('none', null, null)).toBeUndefined()
    expect(await trainOn('a', null, small)).toBeUndefined()
    expect(await trainOn('same', 'a', small)).toBeUndefined()
    expect(await trainOn('more', 'a', large)).toBe(unknown)
    expect(await trainOn('later', 'more', large)).toBe(unknown)
    expect(await trainOn('after-none', 'none', small)).toBe(unknown)
    await rm(join(world.root, 'same', 'config.resolved.yaml'))
    expect(await trainOn('lost', 'same', small)).toBe(unknown)

    const [clean] = images
    await writePairs(world.pairs, [...records, { ...records[0], id: 'both', images: [clean, clean] }])
    expect(await trainOn('several', 'a', small)).toBe('there are pairs of several images')
  })
})
