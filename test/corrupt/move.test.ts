/** The control: the lesion's noise at another place. */
import { describe, expect, it } from 'vitest'
import { emptyMask, type Mask } from '../../src/corrupt/masks/mask.js'
import { moveMask } from '../../src/corrupt/masks/move.js'
import { decodeImage } from '../../src/data/images.js'
import { World } from './world.js'

function maskOf(rows: string[]): Mask {
  const inside = Uint8Array.from(rows.join(''), (character) => Number(character === '#'))
  return { width: rows[0].length, height: rows.length, inside }
}

/** Pixels from the corner of their box, and that corner. */
function shapeOf({ width, inside }: Mask): { shape: string; corner: [number, number] } {
  const pixels = [...inside.keys()]
    .filter((pixel) => inside[pixel])
    .map((pixel) => [pixel % width, Math.floor(pixel / width)])
  const corner: [number, number] = [Math.min(...pixels.map(([x]) => x)), Math.min(...pixels.map(([, y]) => y))]
  return { shape: pixels.map(([x, y]) => `${x - corner[0]},${y - corner[1]}`).join(' '), corner }
}

describe('moveMask', () => {
  const lesion = maskOf([
    '............',
    '..##........',
    '..###.......',
    '....#.......',
    '............',
    '............',
  ])

  it('keeps the shape, stays inside and never touches where it was', () => {
    const places = new Set<string>()
    for (let seed = 0; seed < 200; seed += 1) {
      const moved = moveMask(lesion, seed) as Mask
      expect(shapeOf(moved).shape).toBe(shapeOf(lesion).shape)
      expect(moved.inside.some((value, pixel) => value && lesion.inside[pixel])).toBe(false)
      expect(moveMask(lesion, seed)).toEqual(moved)
      places.add(shapeOf(moved).corner.join())
    }
    // 10 columns by 4 rows of places, less those that touch.
    expect(places.size).toBeGreaterThan(20)
  })

  it('finds the only place there is, whatever the seed', () => {
    const tight = maskOf(['#.#.', '.#.#'])
    // One column to the right its pixels would leave the image; nothing else is free.
    for (let seed = 0; seed < 20; seed += 1) expect(moveMask(tight, seed)).toBeNull()
    const half = maskOf(['##..', '##..'])
    for (let seed = 0; seed < 20; seed += 1) expect(moveMask(half, seed)).toEqual(maskOf(['..##', '..##']))
  })

  it('says when there is none', () => {
    expect(moveMask(maskOf(['###.', '###.']), 0)).toBeNull()
    expect(moveMask(maskOf(['#..#', '....', '#..#']), 0)).toBeNull()
    expect(moveMask(emptyMask({ width: 4, height: 4 }), 0)).toBeNull()
  })
})

describe('lesion-noise-elsewhere', () => {
  it('changes as many pixels as the lesion has, none of them its own, and counts what has no room', async () => {
    const world = await World.create()
    const [small, full] = [await world.image('small.png', 48, 32), await world.image('full.png', 24, 16, 60)]
    await world.pairs([world.pair('small', [small]), world.pair('full', [full]), world.pair('absent', [small])])
    const masks = await world.manifest([
      { image: 'small.png', pair: 'small', mask: { boxes: [[10, 8, 12, 9]] } },
      { image: 'full.png', mask: { boxes: [[0, 0, 16, 16]] } },
      { image: 'small.png', pair: 'absent', mask: { boxes: [[10, 8, 12, 9]] }, absent: true },
    ])
    const { pairs, report } = await world.corrupt({ masks, method: 'lesion-noise-elsewhere' })
    expect(report).toMatchObject({
      methods: { 'lesion-noise-elsewhere': 2, 'image-noise': 1 },
      targeted: { pairs: 2, absent: 1 },
      missing: { noRoom: { count: 1 } },
    })
    expect(report.coverage).toMatchObject({ least: 108 / 1536, most: 108 / 1536 })
    expect(pairs[0].corrupted).toMatchObject({ method: 'lesion-noise-elsewhere', sigma: 45 })
    const clean = await decodeImage(world.path('small.png'))
    const twin = await world.twinOf(pairs[0])
    const mask = await world.maskOf(pairs[0])
    const changed = new Set<number>()
    for (const [at, value] of twin.rgb.entries()) if (value !== clean.rgb[at]) changed.add(Math.floor(at / 3))
    for (const pixel of changed) {
      const [x, y] = [pixel % 48, Math.floor(pixel / 48)]
      expect(x >= 10 && x < 22 && y >= 8 && y < 17).toBe(false)
      expect(mask.rgb[3 * pixel]).toBe(255)
    }
    // Three channels hardly ever all truncate to what they were.
    expect(changed.size).toBeGreaterThan(100)
    const refused = world.corrupt({ masks, method: 'lesion-noise-elsewhere', fallback: 'error', out: world.path('no') })
    await expect(refused).rejects.toThrow(/pairs\.jsonl:2: record full: the image has no other place for its mask/)
  })

  it('the share of targeted pairs is that of the lesion itself where there is room', async () => {
    const world = await World.create()
    const image = await world.image('a.png', 48, 32)
    await world.pairs([world.pair('masked', [image]), world.pair('none', [image])])
    const masks = await world.manifest([{ image: 'a.png', pair: 'masked', mask: { boxes: [[1, 1, 9, 9]] } }])
    for (const method of ['lesion-noise', 'lesion-noise-elsewhere', 'lesion-blackout'] as const) {
      const { report } = await world.corrupt({ masks, method, out: world.path(method) })
      expect(report.targeted).toEqual({ pairs: 1, absent: 0 })
    }
    const { report } = await world.corrupt({ masks, method: 'image-noise', sigma: 45, out: world.path('image') })
    expect(report).toMatchObject({ targeted: { pairs: 0, absent: 0 }, settings: { sigma: 45 } })
  })
})
