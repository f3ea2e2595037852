/** Pairs, images and masks that cannot be used: one pair is left out and named, or the command is refused. */
import { execFileSync } from 'node:child_process'
import { readdir, readFile, rm } from 'node:fs/promises'
import { beforeEach, describe, expect, it } from 'vitest'
import { corruptPairs } from '../../src/corrupt/index.js'
import { maskPng } from '../../src/corrupt/masks/picture.js'
import { ArgumentError } from '../../src/errors.js'
import { box, World } from './world.js'

let world: World
beforeEach(async () => {
  world = await World.create()
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
    await expect(world.corrupt({ masks, overwrite: true })).rejects.toThrow(
      /masks\.jsonl:1: "\.\.\/\.\.\/secret\.png" is not inside/,
    )
    // A folder around manifest and masks may be named; names stay relative to the manifest.
    await world.write('masks/x.json', JSON.stringify(box))
    await world.write('lists/masks.jsonl', '{"image": "a.png", "mask": "../masks/x.json"}\n')
    const listed = { masks: world.path('lists/masks.jsonl'), out: world.path('listed') }
    await expect(world.corrupt(listed)).rejects.toThrow('is not inside')
    const { report } = await world.corrupt({ ...listed, maskRoot: world.root })
    expect(report.sources).toEqual({ 'manifest: boxes': 3 })

    await world.write('masks.jsonl', '{"image": "a.png"}\n')
    await expect(world.corrupt({ masks, overwrite: true })).rejects.toThrow('masks.jsonl:1: mask: it is missing')
    await world.pairs([world.pair('x', [image], { provenance: { masks: [box, box] } })])
    await expect(world.corrupt({ overwrite: true })).rejects.toThrow('one mask or null for each image')
    await world.pairs([world.pair('x', [image]), world.pair('x', [image])])
    await expect(world.corrupt({ overwrite: true })).rejects.toThrow(
      'pairs.jsonl:2: record x: the id is taken by line 1',
    )
    await expect(corruptPairs({ ...world.options(), out: world.root })).rejects.toBeInstanceOf(ArgumentError)
    await world.write('a.png', 'gone')
    await world.pairs([world.pair('x', [image])])
    await expect(world.corrupt({ out: world.path('new') })).rejects.toThrow('pairs.jsonl:1: record x')
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
