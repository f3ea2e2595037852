/** The contact sheet: clean image, twin and mask of each pair, on a page that loads nothing and stays small. */
import { readFile } from 'node:fs/promises'
import sharp from 'sharp'
import { beforeEach, describe, expect, it } from 'vitest'
import { describeImage } from '../../src/data/images.js'
import type { Pair } from '../../src/data/records.js'
import { box, World } from './world.js'

let world: World
beforeEach(async () => {
  world = await World.create()
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
    const twin = await world.twinOf((await world.corrupt()).pairs[0])
    // A lossy file, but of this picture.
    const mean = (of: Uint8Array): number => of.reduce((sum, value) => sum + value, 0) / of.length
    expect(data).toHaveLength(twin.rgb.length)
    expect(Math.abs(mean(data) - mean(twin.rgb))).toBeLessThan(8)
    expect(text).toContain('<mark class="chosen">No</mark> mass.')
    expect(text).toContain('<mark class="rejected">Yes</mark> mass.')
    expect(text).toContain('<span class="tag">presence</span>')
    expect(text).toContain('How strong the noise is for a model is not known: no model was given.')
    await world.corrupt({ sheet, sheetRows: 2, fallback: 'skip', overwrite: true })
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
