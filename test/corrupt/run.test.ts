/** The corruption stage on disk: which mask, what it does to the pixels, what is counted, and going on after a kill. */
import { execFileSync, fork } from 'node:child_process'
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { addLesionNoise, corruptPairs, recordSeed } from '../../src/corrupt/index.js'
import { maskPng } from '../../src/corrupt/masks/picture.js'
import { decodeImage, describeImage } from '../../src/data/images.js'
import { loadPairs } from '../../src/data/pairs.js'
import type { ImageRef, Pair } from '../../src/data/records.js'
import { ArgumentError, DataError, SegmenterError } from '../../src/errors.js'
import { goneOwner } from '../data/owners.js'
import { FakeSegmenter, seen } from './service.js'
import { sha256, World } from './world.js'

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

let world: World
beforeEach(async () => {
  world = await World.create()
})

const box = { boxes: [[4, 3, 8, 6]] }
const inBox = (x: number, y: number): boolean => x >= 4 && x < 12 && y >= 3 && y < 9

async function twinOf(pair: Pair, index = 0) {
  const { images } = pair.corrupted ?? { images: [] }
  return await decodeImage(join(world.path('out'), images[index].path))
}

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
    const twin = await twinOf(pairs[0])
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
    const mask = await decodeImage(join(world.path('out'), pairs[0].corrupted?.masks[0] ?? ''))
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
    expect((await twinOf(pairs[0])).rgb).toEqual(noisy.rgb)
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
      const [clean, twin] = [await decodeImage(world.path(name)), await twinOf(pairs[index])]
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
    const refused = await world.corrupt({ masks: unturned })
    expect(refused.report.warnings[0]).toMatch(
      /^1 pair left out, .*the mask is 24 x 16, the image as displayed 16 x 24/,
    )
    expect((await world.corrupt({ masks: unturned, resizeMasks: true })).report.failed).toBe(0)
  })
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
      const segmenter = { url: service.url, threshold: 0.5, nmsIou: 0.5, timeoutMs: 5000, retries: 0, delayMs: 1 }
      const { pairs, report, requests } = await world.corrupt({ masks, segmenter })
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
      const mask = await decodeImage(join(world.path('out'), pairs[2].corrupted?.masks[0] ?? ''))
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
    await expect(world.corrupt({ masks: world.path('copy') })).rejects.toThrow('detection.json is no list')
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
      const mask = await decodeImage(join(world.path('out'), pairs[0].corrupted?.masks[index] ?? ''))
      expect([...mask.rgb.subarray(0, 3 * mask.width).entries()].find(([, value]) => value)?.[0]).toBe(3 * column)
    }
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
    expect((await world.corrupt({ masks, images: world.path('deep') })).report.warnings).toEqual([
      expect.stringMatching(/^1 image: no source has a mask/),
      expect.stringMatching(/^1 masks of the manifest are for .*masks\.jsonl:2$/),
    ])
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
    const [clean, twin] = [await decodeImage(world.path('a.png')), await twinOf(pairs[0])]
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
    const stopped = world.corrupt({ masks, fallback: 'error' })
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
      const { pairs, report } = await world.corrupt({ method, out: world.path('out') })
      expect(report.missing).toEqual({})
      const twin = await twinOf(pairs[0])
      expect([twin.width, twin.height]).toEqual([60, 40])
      if (method === 'blackout') expect(twin.rgb.every((value) => value === 0)).toBe(true)
      hashes.add(twin.id)
    }
    expect(hashes.size).toBe(3)
    const masks = await world.manifest([{ image: 'a.png', mask: box }])
    const { pairs } = await world.corrupt({ masks, method: 'lesion-blackout' })
    const [clean, twin] = [await decodeImage(world.path('a.png')), await twinOf(pairs[0])]
    const expected = clean.rgb.map((value, at) => (inBox(Math.floor(at / 3) % 60, Math.floor(at / 180)) ? 0 : value))
    expect(twin.rgb).toEqual(expected)
  })
})

/** Every file of a folder with its content, but for what only saves work. */
async function contents(folder: string): Promise<Record<string, string>> {
  const files: Record<string, string> = {}
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    files[path.slice(folder.length)] = sha256(await readFile(path))
  }
  return files
}

describe('going on', () => {
  let service: FakeSegmenter
  beforeEach(async () => {
    service = await FakeSegmenter.start()
    const pairs: Pair[] = []
    for (let index = 0; index < 12; index += 1) {
      const image = await world.image(`images/${index}.png`, 64, 48, 10 + index)
      pairs.push(world.pair(`p${index}`, [image], { provenance: { concept: index % 4 ? `mass ${index}` : 'no mass' } }))
    }
    await world.pairs(pairs)
  })
  afterEach(() => service.stop())

  const segmenter = () => ({ url: service.url, threshold: 0.5, nmsIou: 0.5, timeoutMs: 5000, retries: 0, delayMs: 1 })

  it('after kill -9 ends with the same bytes, and asks the service nothing twice', async () => {
    const whole = { segmenter: segmenter(), out: world.path('whole'), sheet: world.path('whole/sheet.html') }
    const first = await world.corrupt(whole)
    expect(first.requests).toBe(12)
    service.asked = []
    const out = world.path('killed')
    const options = { ...whole, out, sheet: join(out, 'sheet.html') }
    const files = ['--pairs', world.path('pairs.jsonl'), '--out', out, '--seed', '0']
    for (const after of [3, 7]) {
      service.fault = (_asked, _response, attempt) => attempt === after && child.kill('SIGKILL')
      const child = fork(main, ['corrupt', ...files, '--segmenter', service.url], { silent: true })
      expect(await new Promise((resolve) => child.on('exit', (_, signal) => resolve(signal)))).toBe('SIGKILL')
    }
    service.fault = () => false
    await world.write(`killed/corrupted/.tmp-left-${goneOwner()}.01234567`, 'half')
    const { reused, pairs } = await world.corrupt(options)
    expect(reused).toBeGreaterThanOrEqual(4)
    expect(pairs).toHaveLength(12)
    expect(await contents(out)).toEqual(await contents(world.path('whole')))
    // Two requests died with their process.
    const prompts = service.asked.map(({ image, prompts: [prompt] }) => `${prompt} ${sha256(Buffer.from(image))}`)
    expect(prompts.length).toBeLessThanOrEqual(new Set(prompts).size + 2)
  })

  it('makes again what was lost or changed, and takes new settings for new', async () => {
    const { pairs } = await world.corrupt({ segmenter: segmenter() })
    const before = await contents(world.path('out'))
    const [first, second] = pairs.map(({ corrupted }) => join(world.path('out'), corrupted?.images[0].path ?? ''))
    await rm(first)
    await writeFile(second, 'not a picture')
    const again = await world.corrupt({ segmenter: segmenter() })
    expect([again.reused, again.requests]).toEqual([10, 0])
    expect(await contents(world.path('out'))).toEqual(before)
    const other = { segmenter: segmenter(), sigma: 30, overwrite: false }
    await expect(world.corrupt(other)).rejects.toThrow(/holds twins that were made with other settings: sigma$/)
    expect(await contents(world.path('out'))).toEqual(before)
    expect(await world.corrupt({ ...other, overwrite: true })).toMatchObject({ reused: 0, requests: 0 })
    const named = (await world.corrupt(other)).pairs.flatMap(({ corrupted }) => corrupted?.images ?? [])
    // Nothing of the other settings lies beside the new twins.
    expect((await readdir(world.path('out/corrupted'))).sort()).toEqual(
      [...new Set(named.map(({ path }) => path.replace('corrupted/', '')))].sort(),
    )
    await world.image('images/5.png', 64, 48, 99)
    const { pairs: left, report } = await world.corrupt({ segmenter: segmenter(), overwrite: true })
    expect([left.length, report.failed]).toEqual([11, 1])
    expect(report.warnings[0]).toMatch(/^1 pair left out, see failed\.jsonl; first: .*record p5: /)
  })

  it('stops with what it has when the service fails, and the image is not replaced by noise', async () => {
    service.fault = (_, response, attempt) => attempt > 5 && !!response.writeHead(200).end('<html>busy</html>')
    await expect(world.corrupt({ segmenter: segmenter() })).rejects.toBeInstanceOf(SegmenterError)
    expect(await readdir(world.path('out/corrupted'))).toHaveLength(5)
    await expect(readFile(world.path('out/pairs.jsonl'))).rejects.toThrow('ENOENT')
    service.fault = () => false
    expect((await world.corrupt({ segmenter: segmenter() })).requests).toBe(7)
  })
})

describe('a pair whose image or mask cannot be used', () => {
  it('is left out and named, and taken by the same command once it is well', async () => {
    const images = await Promise.all(
      ['a', 'b', 'c', 'd'].map((name, at) => world.image(`${name}.png`, 24, 16, 40 + at)),
    )
    await world.pairs(images.map((image) => world.pair(image.path[0], [image])))
    const lines = images.map(({ path }) => ({ image: path, mask: { file: `${path[0]}-mask.png` } }))
    const masks = await world.manifest(lines)
    const mask = await maskPng({
      width: 24,
      height: 16,
      inside: Uint8Array.from({ length: 384 }, (_, at) => +(at < 60)),
    })
    for (const name of ['a', 'b', 'd']) await world.write(`${name}-mask.png`, mask)
    await world.write('b-mask.png', 'no picture')
    const whole = await world.read('d.png')
    await rm(world.path('d.png'))
    const sheet = world.path('out/sheet.html')
    const first = await world.corrupt({ masks, sheet })
    expect(first.pairs.map(({ id }) => id)).toEqual(['a'])
    expect(first.report).toMatchObject({ pairs: 4, failed: 3, methods: { 'lesion-noise': 1 }, missing: {} })
    const failed = (await readFile(world.path('out/failed.jsonl'), 'utf8')).trim().split('\n')
    expect(failed.map((line) => JSON.parse(line))).toMatchObject([
      { id: 'b', reason: expect.stringContaining('b-mask.png') },
      { id: 'c', reason: expect.stringContaining('c-mask.png') },
      { id: 'd', code: 'ERR_FIRE_IO', reason: expect.stringMatching(/pairs\.jsonl:4: record d: .*d\.png/) },
    ])
    // Without a mask nothing else would look at the image.
    const skipped = await world.corrupt({ fallback: 'skip', out: world.path('skipped') })
    expect(skipped.report).toMatchObject({ skipped: 3, failed: 1, missing: { noMask: { count: 3 } } })

    await world.write('d.png', whole)
    for (const name of ['b', 'c']) await world.write(`${name}-mask.png`, mask)
    const again = await world.corrupt({ masks, sheet })
    expect(again.pairs.map(({ id }) => id)).toEqual(['a', 'b', 'c', 'd'])
    expect([again.reused, again.report.failed]).toEqual([1, 0])
    expect(await readdir(world.path('out'))).not.toContain('failed.jsonl')
  })

  it('is an error when no other is left, with every reason in the file', async () => {
    const image = await world.image('a.png')
    await world.pairs([world.pair('x', [image]), world.pair('y', [image])])
    await rm(world.path('a.png'))
    await expect(world.corrupt()).rejects.toThrow(/No pair of .*pairs\.jsonl can be used; first: .*record x: /)
    expect((await readFile(world.path('out/failed.jsonl'), 'utf8')).trim().split('\n')).toHaveLength(2)
  })
})

describe('hostile input', () => {
  it('names file, line and record', async () => {
    const image = await world.image('a.png')
    await world.pairs([
      world.pair('../../etc/x', [image]),
      world.pair('..', [image]),
      world.pair('.hidden\u0000/é', [image]),
    ])
    const { pairs } = await world.corrupt()
    for (const { corrupted } of pairs) expect(corrupted?.images[0].path).toMatch(/^corrupted\/[A-Za-z0-9_-]+\.png$/)

    const masks = await world.manifest([{ image: 'a.png', mask: '../../secret.png' }])
    await expect(world.corrupt({ masks })).rejects.toThrow(/masks\.jsonl:1: "\.\.\/\.\.\/secret\.png" is not inside/)
    // A folder around manifest and masks may be named; names stay relative to the manifest.
    await world.write('masks/x.json', JSON.stringify(box))
    await world.write('lists/masks.jsonl', '{"image": "a.png", "mask": "../masks/x.json"}\n')
    const listed = { masks: world.path('lists/masks.jsonl'), out: world.path('listed') }
    await expect(world.corrupt(listed)).rejects.toThrow('is not inside')
    const { report } = await world.corrupt({ ...listed, maskRoot: world.root })
    expect(report.sources).toEqual({ 'manifest: boxes': 3 })

    await world.write('masks.jsonl', '{"image": "a.png"}\n')
    await expect(world.corrupt({ masks })).rejects.toThrow('masks.jsonl:1: mask: it is missing')
    await world.pairs([world.pair('x', [image], { provenance: { masks: [box, box] } })])
    await expect(world.corrupt()).rejects.toThrow('one mask or null for each image')
    await world.pairs([world.pair('x', [image]), world.pair('x', [image])])
    await expect(world.corrupt()).rejects.toThrow('pairs.jsonl:2: record x: the id is taken by line 1')
    await expect(corruptPairs({ ...world.options(), out: world.root })).rejects.toBeInstanceOf(ArgumentError)
    await world.write('a.png', 'gone')
    await world.pairs([world.pair('x', [image])])
    await expect(world.corrupt({ out: world.path('new') })).rejects.toThrow('pairs.jsonl:1: record x')
  })
})

describe('the contact sheet', () => {
  it('shows clean image, twin and mask of each pair, and loads nothing', async () => {
    const image = await world.image('a.png')
    const strange = '<script>alert(1)</script>'
    await world.pairs([
      world.pair('first', [image], { prompt: strange, provenance: { masks: [box] } }),
      world.pair('second', [image]),
      world.pair('third', [image]),
    ])
    const sheet = world.path('sheet.html')
    await world.corrupt({ sheet })
    const text = await readFile(sheet, 'utf8')
    expect(text).toContain('3 of 3 pairs')
    expect(text).not.toContain('<script')
    expect(text).toContain('&lt;script&gt;')
    expect([...text.matchAll(/(?:src|href)="(?!data:)/g)]).toEqual([])
    const labels = [...text.matchAll(/aria-label="([^"]+)"/g)].map(([, label]) => label)
    expect(labels).toEqual([
      'clean image',
      'corrupted image',
      'mask',
      ...Array(2).fill(['clean image', 'corrupted image']).flat(),
    ])
    expect(text).toContain('record: boxes, concept by record')
    expect(text).toContain('12.5 % of the image')
    expect(text.match(/no source has a mask/g)).toHaveLength(2)
    // The outline runs along the box, over both pictures.
    expect(text.match(/class="outline" d="M4 3H12M4 9H12M4 3V9M12 3V9"/g)).toHaveLength(2)
    const pictures = [...text.matchAll(/base64,([^"]+)"/g)].map(([, data]) => Buffer.from(data, 'base64'))
    const { data } = await sharp(pictures[1]).raw().toBuffer({ resolveWithObject: true })
    const twin = await twinOf((await world.corrupt()).pairs[0])
    // A lossy file, but of this picture.
    const mean = (of: Uint8Array): number => of.reduce((sum, value) => sum + value, 0) / of.length
    expect(data).toHaveLength(twin.rgb.length)
    expect(Math.abs(mean(data) - mean(twin.rgb))).toBeLessThan(8)
    expect(text).toContain('<mark class="chosen">No</mark> mass.')
    expect(text).toContain('<mark class="rejected">Yes</mark> mass.')
    expect(text).toContain('<span class="tag">presence</span>')
    expect(text).toContain('How strong the noise is for a model is not known: no model was given.')
    await world.corrupt({ sheet, sheetRows: 2, fallback: 'skip' })
    const short = await readFile(sheet, 'utf8')
    expect(short).toContain('2 of 3 pairs')
    expect(short).toContain('no twin')
  })

  it('stays small however large and noisy the images are', async () => {
    const rgb = Uint8Array.from({ length: 900 * 700 * 3 }, (_, at) => (at * 2654435761) % 251)
    await world.write(
      'big.png',
      await sharp(rgb, { raw: { width: 900, height: 700, channels: 3 } })
        .png()
        .toBuffer(),
    )
    const big = await describeImage('big.png', world.root)
    const specks = Array.from({ length: 300 }, (_, at) => [(at * 37) % 890, (at * 53) % 690, 2, 2])
    const report = 'The lungs are clear. '.repeat(300)
    const edits: Pair['edits'] = [{ chosen: [0, 3], rejected: [0, 2], category: 'presence' }]
    await world.pairs(
      Array.from({ length: 3 }, (_, index) =>
        world.pair(`p${index}`, [big], {
          provenance: { masks: [{ boxes: specks }] },
          chosen: report,
          rejected: `No${report.slice(3)}`,
          edits,
        }),
      ),
    )
    const sheet = world.path('sheet.html')
    await world.corrupt({ sheet })
    expect((await readFile(sheet)).length / 3).toBeLessThan(62_000)
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
    const mask = await decodeImage(join(world.path('out'), pair.corrupted?.masks[0] ?? ''))
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
    const byFolder = await world.corrupt({ masks: world.path('m') })
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
    const manifest = await world.corrupt({ masks: await world.manifest([{ image: '0.png', mask: rle(1) }]) })
    expect(manifest.report).toMatchObject({ sources: {}, missing: { noMask: { count: 2 } } })
    expect(manifest.report.warnings.join()).toMatch(/1 names could mean several images.*first: 0\.png/)
    const longer = [{ image: 'x/one/0.png' }, { image: 'y/one/0.png' }].map((line) => ({ ...line, mask: rle(1) }))
    const twice = await world.corrupt({ masks: await world.manifest(longer) })
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

describe('a pipe or device in place of masks', () => {
  it('is refused at once', async () => {
    const image = await world.image('a.png')
    const pipe = world.path('pipe.png')
    execFileSync('mkfifo', [pipe])
    await world.pairs([world.pair('a', [image], { provenance: { masks: ['pipe.png'] } })])
    await expect(world.corrupt()).rejects.toThrow(/record a: .*pipe\.png is a pipe or device/)
    await world.pairs([world.pair('a', [image])])
    await expect(world.corrupt({ masks: pipe })).rejects.toThrow(/pipe\.png is a pipe or device/)
    await expect(world.corrupt({ masks: '/dev/zero' })).rejects.toThrow(/is a pipe or device/)
  })
})
