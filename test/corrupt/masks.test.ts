/** One shape in every form of mask (`generate_masks.py` wrote them), orientation above all; and files that lie. */
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { beforeEach, describe, expect, it } from 'vitest'
import type { DicomSource } from '../../src/corrupt/masks/dicom-seg.js'
import { dicomSource, readSegMask } from '../../src/corrupt/masks/dicom-seg.js'
import { fitMask, type Mask, union } from '../../src/corrupt/masks/mask.js'
import { readMask, type Target } from '../../src/corrupt/masks/read.js'
import { encodeRle } from '../../src/corrupt/masks/rle.js'
import { DataError, FireError, UnsupportedError } from '../../src/errors.js'
import { temporaryFolder } from '../fakes/world.js'

interface FileCase {
  file: string
  with?: object
  source?: boolean
}

const fixture = JSON.parse(await readFile(new URL('./fixtures/masks.json', import.meta.url), 'utf8')) as {
  shape: string[]
  rle: { size: [number, number]; counts: number[] }
  rleString: object
  long: { size: [number, number]; counts: string }
  polygons: number[][]
  boxes: number[][]
  slanted: { polygon: number[]; rle: object }
  pictures: Record<string, FileCase>
  niftis: Record<string, FileCase>
  segmentations: { source: string; cases: Record<string, FileCase> }
}
const [width, height] = [fixture.shape[0].length, fixture.shape.length]

/** The mask as it is drawn in the generator. */
function drawn({ width: columns, inside }: Mask): string[] {
  const text = Array.from(inside, (value) => (value ? '#' : '.')).join('')
  return Array.from({ length: inside.length / columns }, (_, y) => text.slice(y * columns, (y + 1) * columns))
}

function target(size = { width, height }, dicom?: DicomSource): Target {
  return { ...size, sha256: '0'.repeat(64), dicom: async () => dicom }
}

let root: string
beforeEach(async () => {
  root = await temporaryFolder()
})

async function read(spec: unknown, of = target()): Promise<string[]> {
  return drawn((await readMask(spec, of, { root }, 'manifest.jsonl:1')).mask)
}

async function readFileCase({ file, with: options = {} }: FileCase, of = target()): Promise<string[]> {
  await writeFile(join(root, 'mask'), Buffer.from(file, 'base64'))
  return await read({ file: 'mask', ...options }, of)
}

const good = (cases: Record<string, FileCase>) => Object.entries(cases).filter(([name]) => !name.startsWith('refused'))
const refused = (cases: Record<string, FileCase>, name: string): FileCase => cases[`refused: ${name}`]

describe('forms that need no file', () => {
  it.each([
    ['COCO RLE, list', () => fixture.rle],
    ['COCO RLE, string', () => fixture.rleString],
    ['COCO annotation with RLE', () => ({ segmentation: fixture.rle, category_id: 1 })],
    ['COCO annotation with polygons', () => ({ segmentation: fixture.polygons })],
    ['polygons', () => ({ polygons: fixture.polygons })],
    ['bare polygons', () => fixture.polygons],
    ['boxes', () => ({ boxes: fixture.boxes })],
    ['boxes as corners', () => ({ boxes: fixture.boxes.map(([x, y, w, h]) => [x, y, x + w, y + h]), format: 'xyxy' })],
  ])('%s', async (_, spec) => {
    expect(await read(spec())).toEqual(fixture.shape)
  })

  it('writes RLE as COCO does, and reads runs of thousands from strings', async () => {
    const { mask } = await readMask(fixture.rleString, target(), { root }, 'x')
    expect(encodeRle(mask)).toEqual(fixture.rle)
    const { mask: long } = await readMask(fixture.long, target({ width: 700, height: 900 }), { root }, 'x')
    const part = Array.from({ length: height }, (_, y) =>
      long.inside.subarray((700 + y) * 700 + 300).subarray(0, width),
    )
    expect(drawn({ width, height, inside: Uint8Array.from(part.flatMap((row) => [...row])) })).toEqual(fixture.shape)
    expect(long.inside.reduce((sum, value) => sum + value, 0)).toBe(mask.inside.reduce((sum, value) => sum + value, 0))
  })

  it('fills a slanted polygon as COCO does but for pixels on its edge', async () => {
    const size = { width: 40, height: 30 }
    const { mask } = await readMask([fixture.slanted.polygon], target(size), { root }, 'x')
    const { mask: reference } = await readMask(fixture.slanted.rle, target(size), { root }, 'x')
    const at = (x: number, y: number): number => reference.inside[y * 40 + x] ?? 0
    let differing = 0
    for (let y = 0; y < 30; y += 1) {
      for (let x = 0; x < 40; x += 1) {
        if (mask.inside[y * 40 + x] === at(x, y)) continue
        differing += 1
        const around = [at(x - 1, y), at(x + 1, y), at(x, y - 1), at(x, y + 1)]
        expect(around.some((value) => value !== at(x, y))).toBe(true)
      }
    }
    // The edge is about 110 pixels long.
    expect(differing).toBeLessThan(40)
  })

  it.each([
    ['runs that do not fill the mask', { size: [9, 13], counts: [5, 5] }, '10 pixels where 9 x 13'],
    ['a string that breaks off', { size: [9, 13], counts: 'o' }, 'breaks off'],
    ['a foreign character', { size: [9, 13], counts: '{~' }, 'foreign character'],
    ['a size that is a bomb', { size: [1e6, 1e6], counts: [1e12] }, 'declares'],
    ['a polygon of two points', { polygons: [[1, 1, 3, 3]] }, '4 numbers'],
    ['a polygon outside', { polygons: [[1, 1, 30, 3, 3, 8]] }, 'outside the image'],
    ['a box without area', { boxes: [[2, 2, 0, 4]] }, 'no area'],
    ['corners taken for a size', { boxes: [[9, 6, 13, 9]] }, 'leaves the image'],
    ['a relative box', { boxes: [[0.2, 0.2, 0.5, 0.5]] }, 'relative'],
    ['a number', 7, 'no mask'],
    ['an unknown field', { boxes: [[1, 1, 2, 2]], frmat: 'xyxy' }, 'frmat'],
    ['NaN as text', { polygons: [['NaN', 1, 2, 2, 3, 3]] }, 'well formed'],
  ])('refuses %s', async (_, spec, message) => {
    await expect(read(spec)).rejects.toThrow(message)
    await expect(read(spec)).rejects.toBeInstanceOf(DataError)
  })
})

describe('pictures', () => {
  it.each(good(fixture.pictures))('%s', async (_, file) => {
    expect(await readFileCase(file)).toEqual(fixture.shape)
  })

  it('refuses what would be guessed', async () => {
    await expect(readFileCase(refused(fixture.pictures, 'JPEG'))).rejects.toThrow('JPEG')
    await expect(readFileCase(refused(fixture.pictures, 'palette ids'))).rejects.toThrow('coloured')
    const cutOut = fixture.pictures['cut-out'].file
    await expect(readFileCase({ file: cutOut, with: { offset: [9, 0] } })).rejects.toThrow('does not fit')
    await expect(readFileCase({ file: cutOut, with: { slice: 1 } })).rejects.toThrow('slice')
    await expect(readFileCase({ file: Buffer.from('<html>').toString('base64') })).rejects.toThrow('is not a PNG')
  })

  it('is held against the size of the image', async () => {
    await writeFile(join(root, 'mask'), Buffer.from(fixture.pictures['0/255'].file, 'base64'))
    const { mask } = await readMask('mask', target(), { root }, 'x')
    expect(() => fitMask(mask, { width: 26, height: 18 }, false, 'pairs.jsonl:3')).toThrow(
      'pairs.jsonl:3: the mask is 13 x 9, the image as displayed 26 x 18',
    )
    const turned = (() => {
      try {
        return fitMask(mask, { width: 9, height: 13 }, false, 'x')
      } catch (error) {
        return (error as DataError).hint
      }
    })()
    expect(turned).toContain('EXIF')
    const doubled = drawn(fitMask(mask, { width: 26, height: 18 }, true, 'x'))
    expect(doubled.filter((_, y) => y % 2).map((row) => row.replace(/(.)\1/g, '$1'))).toEqual(fixture.shape)
    expect(drawn(union([mask, { ...mask, inside: mask.inside.map(() => 0) }]))).toEqual(fixture.shape)
  })
})

describe('NIfTI', () => {
  it.each(good(fixture.niftis))('%s', async (_, file) => {
    expect(await readFileCase(file)).toEqual(fixture.shape)
  })

  it('refuses what would be guessed', async () => {
    await expect(readFileCase(refused(fixture.niftis, 'identity affine'))).rejects.toThrow(
      'says nothing of orientation',
    )
    await expect(readFileCase(refused(fixture.niftis, 'no slice'))).rejects.toThrow('4 slices')
    await expect(readFileCase(refused(fixture.niftis, 'no such slice'))).rejects.toThrow('there is no 4')
    await expect(readFileCase({ ...fixture.niftis['label ids'], with: { slise: 1 } })).rejects.toThrow('slise')
  })

  it('takes an identity affine with an origin, and one at the origin only when it is asked for', async () => {
    const identity = refused(fixture.niftis, 'identity affine')
    await expect(readFileCase(identity)).rejects.toMatchObject({ hint: expect.stringContaining('"affine"') })
    const asked = await readFileCase({ ...identity, with: { ...identity.with, orientation: 'affine' } })
    const template = Buffer.from(identity.file, 'base64')
    // sform (bytes 280 on): the last of each row is the origin.
    const plain = template[0] === 0x1f ? gunzipSync(template) : Buffer.from(template)
    for (const [row, at] of [-90, -126, -72].entries()) plain.writeFloatLE(at, 280 + 16 * row + 12)
    expect(plain.readInt16LE(254)).toBeGreaterThan(0)
    expect(await readFileCase({ ...identity, file: plain.toString('base64') })).toEqual(asked)
  })

  it('refuses what is cut off, too large, or inflates to more than its header declares', async () => {
    const plain = Buffer.from(fixture.niftis['slice of a volume'].file, 'base64')
    const encoded = (bytes: Buffer): FileCase => ({ file: bytes.toString('base64'), with: { slice: 2 } })
    await expect(readFileCase(encoded(plain.subarray(0, 500)))).rejects.toThrow('truncated')
    for (const bytes of [60, -12]) {
      await expect(readFileCase(encoded(gzipSync(plain).subarray(0, bytes)))).rejects.toThrow(DataError)
    }
    const huge = Buffer.from(plain)
    for (const at of [42, 44, 46]) huge.writeInt16LE(32767, at)
    await expect(readFileCase(encoded(huge))).rejects.toBeInstanceOf(UnsupportedError)
    const bomb = gzipSync(Buffer.concat([plain, Buffer.alloc(2 ** 26)]))
    await expect(readFileCase(encoded(bomb))).rejects.toThrow('inflates to more')
    const negative = Buffer.from(plain)
    negative.writeInt16LE(-5, 42)
    await expect(readFileCase(encoded(negative))).rejects.toThrow('-5')
    await expect(readFileCase(encoded(Buffer.from('1f8b0800', 'hex')))).rejects.toThrow(DataError)
  })
})

describe('DICOM SEG', () => {
  const source = dicomSource(Buffer.from(fixture.segmentations.source, 'base64'), 'source.dcm')
  const of = ({ source: referred }: FileCase) => target({ width, height }, referred ? source : undefined)

  it.each(good(fixture.segmentations.cases))('%s', async (_, file) => {
    expect(await readFileCase(file, of(file))).toEqual(fixture.shape)
  })

  it('is empty for an image that none of its frames refers to', async () => {
    const file = fixture.segmentations.cases['bits, by number']
    const other = target({ width, height }, { ...source, instance: '1.2.3' })
    expect((await readFileCase(file, other)).join('')).not.toContain('#')
  })

  it.each([
    ['no segment', '1 (Nodule), 2 (Lung)'],
    ['no frame', 'none says which image'],
    ['another plane', 'the image in [1, 0, 0, 0, 1, 0]'],
  ])('refuses %s', async (name, message) => {
    const file = refused(fixture.segmentations.cases, name)
    // Without a source the frames' references cannot be followed.
    await expect(readFileCase(file, of(file))).rejects.toThrow(message)
  })

  it('refuses a DICOM image, and pixels that are cut off', async () => {
    await expect(readFileCase({ file: fixture.segmentations.source })).rejects.toThrow('no segmentation')
    const whole = Buffer.from(fixture.segmentations.cases['label map'].file, 'base64')
    const cut = whole.subarray(0, whole.length - 20).toString('base64')
    await expect(readFileCase({ file: cut, with: { segment: 1 } })).rejects.toThrow(DataError)
    for (let length = 132; length < whole.length - 2; length += 1) {
      expect(() => readSegMask(whole.subarray(0, length), 'x.dcm', { segment: 1 })).toThrow(FireError)
    }
    // Another transfer syntax than the file is in: dicom-parser then reads past the end, and throws a plain string.
    const mistaken = Buffer.from(fixture.segmentations.cases['bits, by frame'].file, 'base64')
    mistaken[mistaken.indexOf('1.2.840.10008.1.2.1\0') + 17] = 0
    const broken = mistaken.subarray(0, mistaken.indexOf('Nodule'))
    expect(() => readSegMask(broken, 'x.dcm', { segment: 1, frame: 3 })).toThrow(/^x\.dcm cannot be read.*past end/)
    const bits = Buffer.from(fixture.segmentations.cases['bits, by number'].file, 'base64')
    // NumberOfFrames (0028,0008) IS "4 ": as many as two digits can say.
    bits.write('99', bits.indexOf(Buffer.from('280008004953', 'hex')) + 8)
    await expect(readFileCase({ file: bits.toString('base64'), with: { segment: 1 } })).rejects.toThrow('truncated')
  })
})

describe('files of a manifest', () => {
  it('are read inside its folder only', async () => {
    const secret = join(dirname(root), `outside-${Date.now()}.png`)
    await writeFile(secret, Buffer.from(fixture.pictures['0/255'].file, 'base64'))
    await symlink(secret, join(root, 'link.png'))
    await mkdir(join(root, 'sub'))
    await symlink(dirname(root), join(root, 'sub', 'up'))
    const name = secret.slice(dirname(root).length + 1)
    for (const file of [`../${name}`, secret, 'link.png', `sub/up/${name}`, `sub/../../${name}`]) {
      await expect(read(file)).rejects.toThrow('is not inside')
    }
    await symlink(join(root, 'own.png'), join(root, 'inner.png'))
    await writeFile(join(root, 'own.png'), Buffer.from(fixture.pictures['0/255'].file, 'base64'))
    expect(await read('inner.png')).toEqual(fixture.shape)
  })

  it('are plain files that are there, and not the image itself', async () => {
    await mkdir(join(root, 'folder.png'))
    await expect(read('folder.png')).rejects.toThrow('it is a folder')
    await expect(read('none.png')).rejects.toThrow('none.png')
    await writeFile(join(root, 'rle.json'), JSON.stringify(fixture.rle))
    expect(await read('rle.json')).toEqual(fixture.shape)
    await writeFile(join(root, 'loop.json'), JSON.stringify({ file: 'loop.json' }))
    await expect(read('loop.json')).rejects.toThrow('no mask')
    await writeFile(join(root, 'bad.json'), '{"size": [9,')
    await expect(read('bad.json')).rejects.toThrow('not JSON')
  })
})
