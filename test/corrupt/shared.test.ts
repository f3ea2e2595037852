/** Twins that questions about one image share: `seedBy: image`. */
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { addLesionNoise } from '../../src/corrupt/index.js'
import { decodeImage } from '../../src/data/images.js'
import { loadPairs } from '../../src/data/pairs.js'
import type { Pair } from '../../src/data/records.js'
import { sha256, World } from './world.js'

let world: World
let masks: string

/** Two questions on the lung, one on the heart, of one image; the lung again of its copy, and of another image. */
beforeEach(async () => {
  world = await World.create()
  const [image, other] = [await world.image('a.png'), await world.image('b.png', 24, 16, 60)]
  await cp(world.path('a.png'), world.path('copy.png'))
  const about = (concept: string) => ({ provenance: { concept } })
  await world.pairs([
    world.pair('lung-1', [image], about('lung')),
    world.pair('heart', [image], about('heart')),
    world.pair('lung-2', [image], about('lung')),
    world.pair('copy', [{ ...image, path: 'copy.png' }], about('lung')),
    world.pair('other', [other], about('lung')),
    world.pair('views', [image, other], about('lung')),
  ])
  masks = await world.manifest(
    [image, other].flatMap(({ sha256: hash }) => [
      { image: hash, concept: 'lung', mask: { boxes: [[4, 3, 8, 6]] } },
      { image: hash, concept: 'heart', mask: { boxes: [[2, 2, 5, 5]] } },
    ]),
  )
})

const filesOf = async (out: string): Promise<Record<string, string>> => {
  const names = await readdir(join(out, 'corrupted'))
  const read = async (name: string) => [name, sha256(await readFile(join(out, 'corrupted', name)))]
  return Object.fromEntries(await Promise.all(names.map(read)))
}

const twinsOf = (pairs: readonly Pair[]): Record<string, string[]> =>
  Object.fromEntries(pairs.map(({ id, corrupted }) => [id, corrupted?.images.map(({ path }) => path) ?? []]))

describe('seedBy: image', () => {
  it('gives questions of one image and mask one file, and each mask and each image its own', async () => {
    const { pairs, report } = await world.corrupt({ masks, seedBy: 'image' })
    const { 'lung-1': lung, heart, 'lung-2': again, copy, other, views } = twinsOf(pairs)
    expect(again).toEqual(lung)
    expect(copy).toEqual(lung)
    expect(views).toEqual([...lung, ...other])
    expect(new Set([...lung, ...heart, ...other]).size).toBe(3)
    const files = await filesOf(world.path('out'))
    expect(Object.keys(files)).toHaveLength(3)
    expect(new Set(Object.values(files)).size).toBe(3)
    expect(report).toMatchObject({ files: 3, methods: { 'lesion-noise': 7 }, settings: { seedBy: 'image' } })
    // The noise is that of the seed which the record names, and the twin is what training reads.
    const clean = await decodeImage(world.path('a.png'))
    const inside = Uint8Array.from({ length: 24 * 16 }, (_, at) => {
      const [x, y] = [at % 24, Math.floor(at / 24)]
      return Number(x >= 4 && x < 12 && y >= 3 && y < 9)
    })
    const seed = pairs[2].corrupted?.seed ?? 0
    const noisy = addLesionNoise(clean, inside, { sigma: 45, fallbackSigma: 1 }, seed)
    expect((await decodeImage(join(world.path('out'), again[0]))).rgb).toEqual(noisy.rgb)
    expect((await loadPairs(world.path('out/pairs.jsonl'), { emptyPhrase: 'keep' })).counts.kept).toBe(6)
  })

  it('depends on the seed of the run, and on no other pair', async () => {
    const { pairs } = await world.corrupt({ masks, seedBy: 'image' })
    const files = await filesOf(world.path('out'))
    const seeded = await world.corrupt({ masks, seedBy: 'image', seed: 1, out: world.path('seeded') })
    expect(Object.values(await filesOf(world.path('seeded'))).some((hash) => Object.values(files).includes(hash))).toBe(
      false,
    )
    expect(seeded.pairs[0].corrupted?.seed).not.toBe(pairs[0].corrupted?.seed)
    const clean = (await readFile(world.path('pairs.jsonl'), 'utf8')).trim().split('\n').reverse()
    await writeFile(world.path('pairs.jsonl'), clean.map((line) => `${line}\n`).join(''))
    const reversed = await world.corrupt({ masks, seedBy: 'image', out: world.path('reversed') })
    expect(await filesOf(world.path('reversed'))).toEqual(files)
    expect(twinsOf(reversed.pairs)).toEqual(twinsOf(pairs))
  })

  it('makes a twin once, goes on from what is there, and says how many were made before', async () => {
    const first = await world.corrupt({ masks, seedBy: 'image' })
    expect(first.reused).toBe(0)
    const files = await filesOf(world.path('out'))
    await rm(world.path(join('out', first.pairs[0].corrupted?.images[0].path ?? '')))
    const again = await world.corrupt({ masks, seedBy: 'image' })
    expect([again.reused, again.pairs]).toEqual([2, first.pairs])
    expect(await filesOf(world.path('out'))).toEqual(files)
    // Twins of pairs are others, and have a folder of their own.
    const own = await world.corrupt({ out: world.path('own'), masks })
    expect([own.reused, own.report.files]).toEqual([0, 7])
    expect(new Set(Object.values(twinsOf(own.pairs)).flat()).size).toBe(7)
    expect((await world.corrupt({ masks, seedBy: 'image' })).reused).toBe(3)
  })

  it.each(['lesion-noise-elsewhere', 'image-noise', 'crop'] as const)('shares the twins of %s', async (method) => {
    const { pairs, report } = await world.corrupt({ masks, seedBy: 'image', method })
    const { 'lung-1': lung, heart, 'lung-2': again } = twinsOf(pairs)
    expect(again).toEqual(lung)
    // Without a mask the image alone decides.
    const byMask = method === 'lesion-noise-elsewhere'
    expect(heart[0] === lung[0]).toBe(!byMask)
    expect(report.files).toBe(byMask ? 3 : 2)
  })

  it('shares the noise of images without a mask', async () => {
    const { pairs, report } = await world.corrupt({ seedBy: 'image' })
    expect(report).toMatchObject({ files: 2, methods: { 'image-noise': 7 } })
    expect(pairs[1].corrupted?.images).toEqual(pairs[0].corrupted?.images)
  })

  it('still checks the clean image of every pair', async () => {
    await rm(world.path('copy.png'))
    const { report, pairs } = await world.corrupt({ masks, seedBy: 'image' })
    expect([report.failed, pairs.length]).toEqual([1, 5])
    expect(report.warnings[0]).toContain('record copy')
  })
})
