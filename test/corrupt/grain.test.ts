/** How strong noise is where the model looks: the resize of every family, on folders of their tiny models. */
import { fileURLToPath } from 'node:url'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import type { Mask } from '../../src/corrupt/masks/mask.js'
import { addLesionNoise } from '../../src/corrupt/noise.js'
import { ModelView } from '../../src/corrupt/view.js'
import { World } from './world.js'

const folderOf = (name: string): string => fileURLToPath(new URL(`../golden/${name}`, import.meta.url))
const views = new Map<string, Promise<ModelView>>()
const viewOf = (name: string): Promise<ModelView> => {
  const view = views.get(name) ?? ModelView.open(folderOf(name))
  views.set(name, view)
  return view
}
afterAll(async () => {
  for (const view of views.values()) await (await view).close()
})

const grey = (width: number, height: number) => ({ width, height, rgb: new Uint8Array(width * height * 3).fill(128) })

/** The middle of the picture but for a fifth at each border. */
function middle(width: number, height: number): Mask {
  const within = (at: number, of: number): boolean => at >= 0.2 * of && at < 0.8 * of
  const inside = Uint8Array.from({ length: width * height }, (_, at) =>
    within(at % width, width) && within(Math.floor(at / width), height) ? 1 : 0,
  )
  return { width, height, inside }
}

/** Padded, cropped and stretched; made smaller by a lot, by little, not at all, and made larger. */
const geometries = [
  ['llava', 42, 42, 512, 512],
  ['llava', 42, 42, 430, 250],
  ['llava_qwen2', 56, 56, 512, 512],
  ['llava_qwen2', 56, 56, 250, 430],
  ['qwen2_5_vl', 140, 140, 512, 512],
  ['qwen2_5_vl', 140, 140, 150, 150],
  ['qwen3_vl', 128, 96, 640, 480],
  ['qwen3_vl', 96, 96, 96, 96],
  ['qwen3_vl', 64, 64, 60, 60],
] as const

describe('noise in the view of a model', () => {
  it.each(geometries)(
    '%s shows %i x %i of %i x %i with the grain of its own pixels',
    async (name, w, h, width, height) => {
      const view = await viewOf(name)
      expect(await view.of({ width, height })).toMatchObject({ width: w, height: h })
      const [image, mask] = [grey(width, height), middle(width, height)]
      const options = { sigma: 45, fallbackSigma: 12 }
      const fine = addLesionNoise(image, mask.inside, options, 7)
      const coarse = addLesionNoise(image, mask.inside, options, 7, await view.noise(image, 7))
      const seen = (await view.sigma(image, coarse, mask)) ?? 0
      expect(Math.abs(seen - 45) / 45).toBeLessThan(0.06)
      const { scaleX, scaleY } = await view.of(image)
      const weakened = (await view.sigma(image, fine, mask)) ?? 0
      // Of white noise a cubic filter of n times its width keeps the share (57 / 70) / n of the variance along each axis.
      if (scaleX < 0.6) expect(weakened / (45 * (57 / 70) * Math.sqrt(scaleX * scaleY))).toBeCloseTo(1, 1)
      if (scaleX === 1) expect(weakened).toBeGreaterThan(43)
      // Outside the mask no pixel differs, whatever the grain.
      expect(coarse.rgb.every((value, at) => value === 128 || mask.inside[Math.floor(at / 3)] === 1)).toBe(true)
    },
  )

  it('is a function of its arguments, and has no mean', async () => {
    const view = await viewOf('qwen3_vl')
    const image = grey(200, 150)
    const draw = async (seed: number) =>
      addLesionNoise(image, null, { sigma: 30, fallbackSigma: 30 }, seed, await view.noise(image, seed)).rgb
    const [first, again, other] = [await draw(1), await draw(1), await draw(2)]
    expect(first).toEqual(again)
    expect(first).not.toEqual(other)
    expect(Math.abs(first.reduce((sum, value) => sum + value - 127.5, 0) / first.length)).toBeLessThan(1.5)
  })

  it('is nothing of a mask that the model does not see', async () => {
    // A wide picture loses both ends to the crop.
    const view = await viewOf('llava')
    const image = grey(300, 60)
    const inside = new Uint8Array(300 * 60).fill(1, 0, 1)
    expect(await view.sigma(image, image, { width: 300, height: 60, inside })).toBeNull()
  })
})

describe('corrupt for a model', () => {
  let world: World
  beforeEach(async () => {
    world = await World.create()
  })
  const model = folderOf('qwen2_5_vl')
  const mask = { boxes: [[100, 100, 300, 300]] }

  it('says how strong the noise is in its view, in pairs, report and sheet', async () => {
    const image = await world.image('a.png', 512, 512, 60)
    await world.pairs([world.pair('a', [image], { provenance: { masks: [mask] } })])
    const sheet = world.path('sheet.html')
    const { pairs, report } = await world.corrupt({ model, sheet })
    const [{ seenSigma, grain }] = pairs[0].provenance.corruption as { seenSigma: number; grain: string }[]
    expect(grain).toBe('image')
    // 512 pixels become 140.
    expect(seenSigma).toBeGreaterThan(9)
    expect(seenSigma).toBeLessThan(13)
    expect(report.seenSigma).toEqual({ 'lesion-noise': { least: seenSigma, median: seenSigma, most: seenSigma } })
    expect(report.warnings).toEqual([
      expect.stringMatching(/σ 45 is 9\.\d as the model sees it \(median\); a grain of the model keeps it$/),
    ])
    const text = (await world.read('sheet.html')).toString()
    expect(text).toContain(`lesion-noise, σ 45, ${seenSigma.toFixed(1)} as the model sees it`)
    const again = await world.corrupt({ model, sheet })
    expect([again.reused, again.pairs]).toEqual([1, pairs])
    // The noise is the same without a model, and with one that cannot be opened.
    for (const [model, said] of [
      [undefined, 0],
      [world.path('none'), 1],
    ] as const) {
      const logs: string[] = []
      const plain = await world.corrupt({ model, onLog: (line) => logs.push(line) })
      expect([plain.reused, plain.report.seenSigma]).toEqual([1, null])
      expect(plain.pairs[0].corrupted).toEqual(pairs[0].corrupted)
      expect(logs.filter((line) => line.includes('is not measured in the view of'))).toHaveLength(said)
    }
  })

  it('keeps the strength there with the grain of the model', async () => {
    const image = await world.image('a.png', 512, 512, 60)
    await world.pairs([world.pair('a', [image], { provenance: { masks: [mask] } })])
    const { pairs, report } = await world.corrupt({ model, grain: 'model' })
    const [made] = pairs[0].provenance.corruption as { seenSigma: number; grain: string }[]
    expect(made.grain).toBe('model')
    // Levels from 60 to 210: some of it is clipped.
    expect(made.seenSigma).toBeGreaterThan(40)
    expect(made.seenSigma).toBeLessThan(47)
    expect(report.warnings).toEqual([])
    const plain = await world.corrupt({ overwrite: true })
    expect(plain.report.seenSigma).toBeNull()
    expect(plain.pairs[0].corrupted?.images).not.toEqual(pairs[0].corrupted?.images)
  })

  it('goes on at an image that the model refuses, and needs a model for its grain', async () => {
    const thin = await world.image('thin.png', 600, 2)
    await world.pairs([world.pair('a', [thin], { provenance: { masks: [{ boxes: [[0, 0, 300, 2]] }] } })])
    const { pairs } = await world.corrupt({ model, grain: 'model' })
    expect(pairs[0].provenance.corruption).toMatchObject([{ grain: 'image', seenSigma: null }])
    await expect(world.corrupt({ grain: 'model' })).rejects.toThrow(/grain of a model needs the model/)
  })
})
