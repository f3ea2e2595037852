/** Images that the host prepares ahead, in the addon. Skipped where it has not been built. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { defaultLora, type Engine, type ImageInput, openEngine } from '../../src/engine/engine.js'
import { nativeCandidates } from '../../src/engine/load.js'
import { ArgumentError, ClosedError, UnsupportedError } from '../../src/errors.js'

const built = nativeCandidates().some((path) => existsSync(path))
const folder = (name: string) => fileURLToPath(new URL(`../golden/${name}`, import.meta.url))

function image(id: string, width: number, height: number): ImageInput {
  const salt = [...id].reduce((sum, letter) => sum + letter.charCodeAt(0), 0)
  return { id, width, height, rgb: Uint8Array.from({ length: width * height * 3 }, (_, at) => (at * salt) >> 3) }
}

/** What the model says behind an image: its features decide it. */
async function said(engine: Engine, id: string, tokens: number): Promise<number[]> {
  const ids = Int32Array.of(1, ...new Array<number>(tokens).fill(engine.info.imageTokenId), 2, 3, 4)
  const [values] = await engine.logprobs([{ ids, images: [id] }])
  return [...values.slice(-2)]
}

describe.skipIf(!built)('prepared images', () => {
  it.each(['qwen3_vl', 'qwen2_5_vl', 'llava'])('give the bits of pixels, alone and with others: %s', async (model) => {
    await using engine = await openEngine({ model: folder(model), threads: 2 })
    const images = [image('a', 96, 64), image('b', 64, 64), image('c', 200, 90)]
    const expected = []
    for (const one of images) {
      const [{ tokens }] = await engine.encodeImages([one])
      expected.push(await said(engine, one.id, tokens))
      await engine.releaseImages([one.id])
    }
    const prepared = await engine.prepareImages(images)
    expect(prepared.map(({ id }) => id)).toEqual(['a', 'b', 'c'])
    const features = await engine.encodeImages([prepared[0], images[1], prepared[2]])
    for (const [index, { id, tokens }] of features.entries()) {
      expect(await said(engine, id, tokens)).toEqual(expected[index])
    }
    // What was prepared can be used again.
    await engine.releaseImages(['a'])
    const [{ tokens }] = await engine.encodeImages([prepared[0]])
    expect(await said(engine, 'a', tokens)).toEqual(expected[0])
  })

  it('are made while the engine is at work', async () => {
    await using engine = await openEngine({ model: folder('qwen3_vl'), threads: 1, lora: { ...defaultLora, rank: 4 } })
    const ids = Int32Array.from({ length: 3000 }, (_, index) => index % 400)
    const order: string[] = []
    const work = engine.logprobs([{ ids, images: [] }]).then(() => order.push('work'))
    const ready = engine.prepareImages([image('a', 64, 64)]).then(() => order.push('image'))
    await Promise.all([work, ready])
    expect(order).toEqual(['image', 'work'])
  })

  it('say what is wrong with an image, and a call that fails holds none', async () => {
    await using engine = await openEngine({ model: folder('qwen3_vl'), threads: 1 })
    await expect(engine.prepareImages([image('thin', 600, 1)])).rejects.toThrow(UnsupportedError)
    const [good] = await engine.prepareImages([image('good', 64, 64)])
    await expect(engine.encodeImages([good, image('thin', 600, 1)])).rejects.toThrow('600x1')
    const ids = Int32Array.of(1, ...new Array<number>(4).fill(engine.info.imageTokenId), 2)
    await expect(engine.logprobs([{ ids, images: ['good'] }])).rejects.toThrow('"good" has not been encoded')
    const foreign = { id: 'foreign' }
    // @ts-expect-error Only what prepareImages made is a prepared image.
    await expect(engine.encodeImages([foreign])).rejects.toThrow(ArgumentError)
    const stop = AbortSignal.abort()
    await expect(engine.prepareImages([image('a', 8, 8)], { signal: stop })).rejects.toThrow('aborted')
  })

  it('are of one model', async () => {
    await using one = await openEngine({ model: folder('llava'), threads: 1 })
    await using other = await openEngine({ model: folder('qwen3_vl'), threads: 1 })
    for (const [from, to] of [
      [one, other],
      [other, one],
    ]) {
      const prepared = await from.prepareImages([image('a', 64, 96)])
      await expect(to.encodeImages(prepared)).rejects.toThrow(ArgumentError)
    }
  })

  it('outlive the engine that made them', async () => {
    const engine = await openEngine({ model: folder('qwen3_vl'), threads: 1 })
    const work = engine.prepareImages([image('a', 512, 512)])
    await engine.close()
    const prepared = await work
    await using other = await openEngine({ model: folder('qwen3_vl'), threads: 1 })
    expect(await other.encodeImages(prepared)).toMatchObject([{ id: 'a' }])
    await expect(engine.prepareImages([image('b', 8, 8)])).rejects.toThrow(ClosedError)
  })
})
