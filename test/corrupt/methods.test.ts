/** What each method does to the pixels: noise on the mask, noise without a usable mask, and the baselines. */
import { readFile } from 'node:fs/promises'
import sharp from 'sharp'
import { beforeEach, describe, expect, it } from 'vitest'
import { addLesionNoise, recordSeed } from '../../src/corrupt/index.js'
import { decodeImage, describeImage } from '../../src/data/images.js'
import { loadPairs } from '../../src/data/pairs.js'
import { DataError } from '../../src/errors.js'
import { box, inBox, World } from './world.js'

let world: World
beforeEach(async () => {
  world = await World.create()
})

describe('targeted noise', () => {
  it('changes the mask and not a bit outside it', async () => {
    const image = await world.image('images/scan.jpg', 240, 160)
    await world.pairs([world.pair('study/1#a', [image], { provenance: { concept: 'Mass', kept: 1 } })])
    const masks = await world.manifest([
      { image: image.path, concept: 'mass', mask: { boxes: [[40, 30, 80, 60]] } },
      { image: image.path, concept: 'heart', mask: { boxes: [[0, 0, 10, 10]] } },
    ])
    const { pairs, report } = await world.corrupt({ masks })
    const clean = await decodeImage(world.path('images/scan.jpg'))
    const twin = await world.twinOf(pairs[0])
    let changed = 0
    let sum = 0
    let squares = 0
    for (let at = 0; at < clean.rgb.length; at += 1) {
      const [x, y] = [Math.floor(at / 3) % 240, Math.floor(at / 720)]
      const difference = twin.rgb[at] - clean.rgb[at]
      if (!(x >= 40 && x < 120 && y >= 30 && y < 90)) expect(difference).toBe(0)
      // Grey levels from 40 to 190: a deviation of 10 is hardly ever clipped.
      changed += difference === 0 ? 0 : 1
      sum += difference
      squares += difference ** 2
    }
    const drawn = 80 * 60 * 3
    expect(changed / drawn).toBeGreaterThan(0.95)
    expect(Math.abs(sum / drawn)).toBeLessThan(3)
    // Clipping at 0 takes a little of 45.
    expect(Math.sqrt(squares / drawn)).toBeGreaterThan(40)
    expect(Math.sqrt(squares / drawn)).toBeLessThan(46)
    expect(report).toMatchObject({ methods: { 'lesion-noise': 1 }, sources: { 'manifest: boxes': 1 }, missing: {} })
    expect(report.coverage?.median).toBe((80 * 60) / (240 * 160))
    expect(pairs[0]).toMatchObject({
      images: [{ ...image, path: '../images/scan.jpg' }],
      corrupted: { method: 'lesion-noise', sigma: 45, seed: recordSeed('study/1#a', 0) },
      provenance: { kept: 1, corruption: [{ source: 'manifest: boxes', conceptBy: 'record', fallback: null }] },
    })
    const mask = await world.maskOf(pairs[0])
    expect(mask.rgb.filter((value) => value === 255)).toHaveLength(80 * 60 * 3)
    // What training reads: hashes, sizes and paths hold.
    const loaded = await loadPairs(world.path('out/pairs.jsonl'), { emptyPhrase: 'keep' })
    expect(loaded.counts).toMatchObject({ kept: 1, withoutCorrupted: 0, corruptedSameAsClean: 0 })
  })

  it('is seeded by record and view, as the demo draws it', async () => {
    const image = await world.image('a.png')
    await world.pairs([world.pair('one', [image, image]), world.pair('two', [image, image])])
    const masks = await world.manifest([{ image: image.sha256, mask: box }])
    const { pairs } = await world.corrupt({ masks, sigma: 20 })
    const clean = await decodeImage(world.path('a.png'))
    const inside = Uint8Array.from({ length: 24 * 16 }, (_, at) => Number(inBox(at % 24, Math.floor(at / 24))))
    const noisy = addLesionNoise(clean, inside, { sigma: 20, fallbackSigma: 1 }, recordSeed('one', 0))
    expect((await world.twinOf(pairs[0])).rgb).toEqual(noisy.rgb)
    const hashes = pairs.flatMap(({ corrupted }) => corrupted?.images.map((twin) => twin.sha256) ?? [])
    expect(new Set(hashes).size).toBe(4)
    const other = await world.corrupt({ masks, sigma: 20, seed: 1, out: world.path('other') })
    expect(other.pairs[0].corrupted?.images[0].sha256).not.toBe(hashes[0])
  })

  it('follows the image as it is displayed: EXIF applied, DICOM through its window', async () => {
    const pixels = sharp(Buffer.alloc(24 * 16 * 3, 80), { raw: { width: 24, height: 16, channels: 3 } })
    await world.write('turned.jpg', await pixels.withMetadata({ orientation: 6 }).jpeg().toBuffer())
    const turned = await describeImage('turned.jpg', world.root)
    expect([turned.width, turned.height]).toEqual([16, 24])
    const masksFixture = JSON.parse(await readFile(new URL('./fixtures/masks.json', import.meta.url), 'utf8'))
    await world.write('scan.dcm', Buffer.from(masksFixture.segmentations.source, 'base64'))
    await world.write('seg.dcm', Buffer.from(masksFixture.segmentations.cases['bits, by number'].file, 'base64'))
    const scan = await describeImage('scan.dcm', world.root)
    await world.pairs([world.pair('turned', [turned]), world.pair('scan', [scan])])
    const stored = { size: [16, 24], counts: [0, 40, 344] }
    const masks = [
      { image: 'turned.jpg', mask: { boxes: [[2, 12, 6, 8]] } },
      { image: 'scan.dcm', mask: { file: 'seg.dcm', segment: 'Nodule' } },
    ]
    const { pairs } = await world.corrupt({ masks: await world.manifest(masks) })
    for (const [index, name] of ['turned.jpg', 'scan.dcm'].entries()) {
      const [clean, twin] = [await decodeImage(world.path(name)), await world.twinOf(pairs[index])]
      const differs = (x: number, y: number) => {
        const at = 3 * (y * clean.width + x)
        return clean.rgb.subarray(at, at + 3).some((value, channel) => value !== twin.rgb[at + channel])
      }
      const inside = (x: number, y: number): boolean =>
        index === 0 ? x >= 2 && x < 8 && y >= 12 && y < 20 : masksFixture.shape[y][x] === '#'
      for (let y = 0; y < clean.height; y += 1) {
        for (let x = 0; x < clean.width; x += 1) expect(differs(x, y)).toBe(inside(x, y))
      }
    }
    const unturned = await world.manifest([{ image: 'turned.jpg', mask: stored }])
    const refused = await world.corrupt({ masks: unturned, overwrite: true })
    expect(refused.report.warnings[0]).toMatch(
      /^1 pair left out, .*the mask is 24 x 16, the image as displayed 16 x 24/,
    )
    expect((await world.corrupt({ masks: unturned, resizeMasks: true, overwrite: true })).report.failed).toBe(0)
  })
})

describe('without a usable mask', () => {
  const setUp = async () => {
    const image = await world.image('a.png', 60, 40)
    await world.pairs([
      world.pair('none', [image]),
      world.pair('large', [image]),
      world.pair('half', [image, image], { provenance: { masks: [{ boxes: [[1, 1, 9, 9]] }, null] } }),
    ])
    return await world.manifest([{ image: 'a.png', pair: 'large', mask: { boxes: [[0, 0, 60, 36]] } }])
  }

  it('an image gets the published noise all over, and is counted', async () => {
    const { pairs, report } = await world.corrupt({ masks: await setUp() })
    expect(report.missing).toMatchObject({ noMask: { count: 2 }, tooLarge: { count: 1 } })
    expect(pairs.map(({ corrupted }) => [corrupted?.method, corrupted?.sigma, corrupted?.masks.length])).toEqual([
      ['image-noise', 12, 0],
      ['image-noise', 12, 0],
      ['mixed', 45, 1],
    ])
    const [clean, twin] = [await decodeImage(world.path('a.png')), await world.twinOf(pairs[0])]
    const changed = twin.rgb.filter((value, at) => value !== clean.rgb[at]).length
    expect(changed / clean.rgb.length).toBeGreaterThan(0.9)
    const larger = await world.corrupt({
      masks: world.path('masks.jsonl'),
      maxCoverage: 0.9,
      out: world.path('larger'),
    })
    expect(larger.report.missing.tooLarge).toBeUndefined()
  })

  it('a pair stays without a twin, or the run stops', async () => {
    const masks = await setUp()
    const { pairs, report } = await world.corrupt({ masks, fallback: 'skip' })
    expect([report.skipped, report.pairs, pairs.length]).toEqual([3, 3, 3])
    expect(pairs.every(({ corrupted }) => corrupted === undefined)).toBe(true)
    const stopped = world.corrupt({ masks, fallback: 'error', overwrite: true })
    await expect(stopped).rejects.toBeInstanceOf(DataError)
    await expect(stopped).rejects.toThrow(/pairs\.jsonl:1: record none: no source has a mask/)
  })
})

describe('baselines', () => {
  it('need no mask and keep the size', async () => {
    const image = await world.image('a.png', 60, 40)
    await world.pairs([world.pair('x', [image])])
    const methods = ['image-noise', 'crop', 'blackout'] as const
    const hashes = new Set<string>()
    for (const method of methods) {
      const { pairs, report } = await world.corrupt({ method, overwrite: true })
      expect(report.missing).toEqual({})
      const twin = await world.twinOf(pairs[0])
      expect([twin.width, twin.height]).toEqual([60, 40])
      if (method === 'blackout') expect(twin.rgb.every((value) => value === 0)).toBe(true)
      hashes.add(twin.id)
    }
    expect(hashes.size).toBe(3)
    const masks = await world.manifest([{ image: 'a.png', mask: box }])
    const { pairs } = await world.corrupt({ masks, method: 'lesion-blackout', overwrite: true })
    const [clean, twin] = [await decodeImage(world.path('a.png')), await world.twinOf(pairs[0])]
    const expected = clean.rgb.map((value, at) => (inBox(Math.floor(at / 3) % 60, Math.floor(at / 180)) ? 0 : value))
    expect(twin.rgb).toEqual(expected)
  })
})
