/** Where the mask of an image is found: in the record, a manifest, a folder, SLAKE's layout, the service; and by which name. */
import { cp, rm } from 'node:fs/promises'
import sharp from 'sharp'
import { beforeEach, describe, expect, it } from 'vitest'
import { maskPng } from '../../src/corrupt/masks/picture.js'
import type { ImageRef, Pair } from '../../src/data/records.js'
import { FakeSegmenter, seen } from './service.js'
import { box, inBox, World } from './world.js'

let world: World
beforeEach(async () => {
  world = await World.create()
})

describe('the mask of the concept', () => {
  it('comes from the record, then the manifest, then the service', async () => {
    const service = await FakeSegmenter.start()
    try {
      const image = await world.image('a.png')
      const concept = { concept: 'mass' }
      await world.pairs([
        world.pair('own', [image], { provenance: { ...concept, masks: [box] } }),
        world.pair('listed', [image], { provenance: concept }),
        world.pair('asked', [image], { provenance: { concept: ['liver', 'spleen'] } }),
        world.pair('unseen', [image], { provenance: { concept: 'no such thing' } }),
        world.pair('nameless', [image], { prompt: 'Is it normal?' }),
        world.pair('reserved', [image], { provenance: { concept: 'cyst' } }),
      ])
      const masks = await world.manifest([
        { image: './a.png', concept: 'Mass', mask: { size: [16, 24], counts: [0, 16, 368] } },
        { image: 'a.png', concept: 'cyst', pair: 'reserved', mask: { size: [16, 24], counts: [384] } },
      ])
      const { pairs, report, requests } = await world.corrupt({ masks, segmenter: service.settings })
      const corruption = pairs.map(({ provenance }) => (provenance.corruption as { source: string }[])[0])
      expect(corruption.map(({ source }) => source)).toEqual([
        'record: boxes',
        'manifest: rle',
        'segmenter: rle',
        null,
        null,
        null,
      ])
      expect(report.missing).toMatchObject({
        noDetection: { count: 1, first: expect.stringMatching(/pairs\.jsonl:4: record unseen$/) },
        noConcept: { count: 1, first: expect.stringContaining('nameless') },
        emptyMask: { count: 1, first: expect.stringContaining('reserved') },
      })
      expect(report.methods).toEqual({ 'lesion-noise': 3, 'image-noise': 3 })
      expect(report.warnings).toHaveLength(3)
      expect(requests).toBe(3)
      const mask = await world.maskOf(pairs[2])
      const [one, two] = [seen('liver', 24, 16), seen('spleen', 24, 16)]
      expect(one).not.toEqual(two)
      expect(mask.rgb.filter((_, at) => at % 3 === 0)).toEqual(one.map((value, at) => (value || two[at] ? 255 : 0)))
    } finally {
      await service.stop()
    }
  })

  it("is read from SLAKE's folders: ids through mask.txt, boxes where there are none", async () => {
    const pixels = (name: string, level: (x: number, y: number) => number) => {
      const grey = Uint8Array.from({ length: 24 * 16 }, (_, at) => level(at % 24, Math.floor(at / 24)))
      return sharp(grey, { raw: { width: 24, height: 16, channels: 1 } })
        .toColourspace('b-w')
        .png()
        .toBuffer()
        .then((png) => world.write(name, png))
    }
    const image = await world.image('imgs/xmlab3/source.png')
    await pixels('imgs/xmlab3/mask.png', (x, y) => (inBox(x, y) ? 70 : x > 20 ? 12 : 0))
    await world.write('mask.txt', '70:Lung Cancer\n12:Lung\n39:Brain Edema\n')
    await world.write('imgs/xmlab3/detection.json', '[{"Lung Cancer": [0, 0, 2, 2]}, {"Kidney": [1.0, 1.0, 4.0, 2.5]}]')
    const ask = (id: string, prompt: string, provenance = {}) => world.pair(id, [image], { prompt, provenance })
    const pairs = [
      ask('cancer', 'Is there lung cancer in this picture?'),
      ask('organ', 'Which organ is it?', { concept: 'lung' }),
      ask('kidney', 'Where is the kidney?'),
      ask('edema', 'Where is the brain edema?'),
      ask('plane', 'Which plane is it?'),
      ask('plural', 'Do the lungs look normal?'),
      world.pair('said', [image], {
        prompt: 'What is it?',
        chosen: 'Lung',
        rejected: 'Liver',
        edits: [{ chosen: [0, 4], rejected: [0, 5], category: 'organ' }],
      }),
    ]
    await world.pairs(pairs)
    const { pairs: done, report } = await world.corrupt()
    const found = done.map(({ provenance }) => (provenance.corruption as Record<string, unknown>[])[0])
    expect(
      found.map(({ source, conceptBy, coverage }) => [source, conceptBy, Math.round(Number(coverage) * 384)]),
    ).toEqual([
      ['SLAKE: picture', 'prompt', 48],
      ['SLAKE: picture', 'record', 48],
      ['SLAKE: boxes', 'prompt', 4 * 3],
      [null, null, 0],
      [null, null, 0],
      ['SLAKE: picture', 'prompt', 48],
      ['SLAKE: picture', 'answer', 48],
    ])
    expect(report.missing).toMatchObject({ emptyMask: { count: 1 }, noConcept: { count: 1 } })
    // Without the names no id is guessed.
    await rm(world.path('mask.txt'))
    const boxes = await world.corrupt({ out: world.path('boxes') })
    expect(boxes.report.sources).toEqual({ 'SLAKE: boxes': 2 })
    // A copy of the layout elsewhere.
    await cp(world.path('imgs'), world.path('copy/imgs'), { recursive: true })
    await rm(world.path('imgs/xmlab3/detection.json'))
    await rm(world.path('imgs/xmlab3/mask.png'))
    const copied = await world.corrupt({ masks: world.path('copy'), out: world.path('copied') })
    expect(copied.report.sources).toEqual({ 'SLAKE: boxes': 2 })
    await world.write('copy/imgs/xmlab3/detection.json', '{"Lung": 3}')
    await expect(world.corrupt({ masks: world.path('copy'), out: world.path('copied') })).rejects.toThrow(
      'detection.json is no list',
    )
  })

  it('is found in a folder by name, one for each view, and never by a name that two images share', async () => {
    const [front, side] = [await world.image('CXR1/0.png', 24, 16, 40), await world.image('CXR1/1.png', 20, 16, 50)]
    const other = await world.image('CXR2/0.png', 24, 16, 60)
    await world.pairs([
      world.pair('views', [front, side], { provenance: { concept: 'left lung' } }),
      world.pair('other', [other], { provenance: { concept: 'left lung' } }),
    ])
    const rle = (width: number, column: number) =>
      JSON.stringify({ size: [16, width], counts: [16 * column, 16, 16 * (width - column - 1)] })
    await world.write('m/CXR1/0__Left_Lung.json', rle(24, 3))
    await world.write('m/CXR1/0__Heart.json', rle(24, 9))
    await world.write('m/CXR1/1/left-lung.json', rle(20, 5))
    await world.write('m/0.json', rle(24, 1))
    const { pairs, report } = await world.corrupt({ masks: world.path('m') })
    expect(report).toMatchObject({ sources: { 'folder: rle': 2 }, methods: { 'lesion-noise': 2, 'image-noise': 1 } })
    expect(report.missing.noMask?.first).toContain('record other')
    for (const [index, column] of [3, 5].entries()) {
      const mask = await world.maskOf(pairs[0], index)
      expect([...mask.rgb.subarray(0, 3 * mask.width).entries()].find(([, value]) => value)?.[0]).toBe(3 * column)
    }
  })
})

describe('a mask named after the image', () => {
  /** What an import makes of pictures: files named by hash, with the name they had. */
  const imported = async (name: string, shade: number): Promise<ImageRef> => {
    const { sha256 } = await world.image(`original/${name}`, 24, 16, shade)
    const path = `images/${sha256}.png`
    await world.write(path, await world.read(`original/${name}`))
    return { path, sha256, width: 24, height: 16, name }
  }
  const columnOf = async (pair: Pair): Promise<number> => {
    const mask = await world.maskOf(pair)
    return mask.rgb.findIndex((value) => value > 0) / 3
  }
  const rle = (column: number) => ({ size: [16, 24], counts: [16 * column, 16, 16 * (23 - column)] })

  it('before the import is found, in a manifest and a folder, as is one named by hash', async () => {
    const [a, b, c] = [await imported('set/a.png', 40), await imported('set/b.png', 50), await imported('c.png', 60)]
    await world.pairs([a, b, c].map((image, index) => world.pair(`p${index}`, [image])))
    const masks = await world.manifest([
      { image: 'a.png', mask: rle(2) },
      { image: 'data/pictures/set/b.png', mask: rle(3) },
      { image: c.sha256, mask: rle(4) },
    ])
    const byManifest = await world.corrupt({ masks })
    expect(byManifest.report).toMatchObject({ sources: { 'manifest: rle': 3 }, missing: {}, warnings: [] })
    expect(await Promise.all(byManifest.pairs.map(columnOf))).toEqual([2, 3, 4])
    await world.write('m/set/a.json', JSON.stringify(rle(5)))
    await world.write('m/b.json', JSON.stringify(rle(6)))
    await world.write(`m/${c.sha256}.json`, JSON.stringify(rle(7)))
    const byFolder = await world.corrupt({ masks: world.path('m'), overwrite: true })
    expect(byFolder.report).toMatchObject({ sources: { 'folder: rle': 3 }, missing: {}, warnings: [] })
    expect(await Promise.all(byFolder.pairs.map(columnOf))).toEqual([5, 6, 7])
  })

  it('is not guessed where several images have the name, and this is said', async () => {
    const [a, b] = [await imported('one/0.png', 40), await imported('two/0.png', 50)]
    await world.pairs([world.pair('a', [a]), world.pair('b', [b])])
    await world.write('m/0.json', JSON.stringify(rle(1)))
    const folder = await world.corrupt({ masks: world.path('m') })
    expect(folder.report).toMatchObject({ sources: {}, missing: { noMask: { count: 2 } } })
    expect(folder.report.warnings.join()).toMatch(/names of masks are those of several images.*first: 0\.json/)
    const named = await world.manifest([{ image: '0.png', mask: rle(1) }])
    const manifest = await world.corrupt({ masks: named, overwrite: true })
    expect(manifest.report).toMatchObject({ sources: {}, missing: { noMask: { count: 2 } } })
    expect(manifest.report.warnings.join()).toMatch(/1 names could mean several images.*first: 0\.png/)
    const longer = [{ image: 'x/one/0.png' }, { image: 'y/one/0.png' }].map((line) => ({ ...line, mask: rle(1) }))
    const twice = await world.corrupt({ masks: await world.manifest(longer), overwrite: true })
    expect(twice.report.warnings.join()).toMatch(/x\/one\/0\.png, y\/one\/0\.png \(for one\/0\.png\)/)
  })

  it('is united with a second of its name, and this is said', async () => {
    await world.pairs([world.pair('a', [await imported('a.png', 40)])])
    await world.write('m/a.json', JSON.stringify(rle(1)))
    await world.write('m/a.png', await maskPng({ width: 24, height: 16, inside: new Uint8Array(384).fill(1, 0, 1) }))
    const { report } = await world.corrupt({ masks: world.path('m') })
    expect(report.warnings).toEqual([expect.stringMatching(/two masks of one name.*first: a\.json and a\.png/)])
  })

  it.each([
    ['Pleural_Effusions', 'pleural effusion'],
    ['left-lung', 'Left Lungs'],
    ['rib_fractures', 'Rib fracture'],
    ['LungOpacity', 'lung opacities'],
    ['metastasis', 'Metastases'],
    ['disease', 'diseases'],
    ['masses', 'mass'],
    ['vertebra', 'vertebrae'],
  ])('of %s is that of "%s", in the record and in the question', async (label, concept) => {
    const image = await world.image('a.png')
    await world.pairs([
      world.pair('record', [image], { provenance: { concept } }),
      world.pair('question', [image], { prompt: `Where is the ${concept}?` }),
    ])
    const masks = await world.manifest([
      { image: 'a.png', concept: label, mask: rle(2) },
      { image: 'a.png', concept: 'heart', mask: rle(3) },
    ])
    const { pairs, report } = await world.corrupt({ masks })
    expect(report.concepts).toEqual({ record: 1, prompt: 1 })
    expect(await Promise.all(pairs.map(columnOf))).toEqual([2, 2])
  })
})

describe('what was given for nothing', () => {
  it('is reported: masks of images that no pair has, twins that were there', async () => {
    const image = await world.image('deep/a.png')
    const { path } = image
    await world.image('a.png')
    const twin = { images: [image], method: 'x', sigma: 1, seed: 1, masks: [] }
    await world.pairs([world.pair('x', [{ ...image, path: 'a.png' }], { corrupted: twin })])
    const masks = await world.manifest([
      { image: 'a.png', mask: box },
      { image: path, mask: box },
    ])
    const { report, pairs } = await world.corrupt({ masks, images: world.path('deep') })
    expect(report.replaced).toBe(1)
    expect(pairs[0].images[0].path).toBe('../deep/a.png')
    // No image lacks its mask: the other one is for pairs of another file.
    expect(report.warnings).toEqual([])
    const missing = await world.image('deep/b.png', 24, 16, 90)
    await world.pairs([
      world.pair('x', [{ ...image, path: 'a.png' }]),
      world.pair('y', [{ ...missing, path: 'b.png' }]),
    ])
    const again = await world.corrupt({ masks, images: world.path('deep'), overwrite: true })
    expect(again.report.warnings).toEqual([
      expect.stringMatching(/^1 image: no source has a mask/),
      expect.stringMatching(/^1 masks of the manifest are for .*masks\.jsonl:2$/),
    ])
  })
})
