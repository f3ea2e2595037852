/** Image files against what Pillow makes of them (`generate_images.py` made the reference), and hostile ones. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { appendFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { deflateSync } from 'node:zlib'
import sharp from 'sharp'
import { beforeEach, describe, expect, it } from 'vitest'
import {
  checkReferenced,
  decodeImage,
  decodeReferenced,
  describeImage,
  describeWithNotes,
  examineReferenced,
} from '../../src/data/images.js'
import { DataError, FileError, UnsupportedError } from '../../src/errors.js'
import { temporaryFolder, writeImage } from '../fakes/world.js'

interface Case {
  name: string
  file: string
  width: number
  height: number
  rgb: string
}

const fixture = JSON.parse(readFileSync(new URL('./fixtures/images.json', import.meta.url), 'utf8')) as {
  animated: string
  cases: Case[]
}

let folder: string

beforeEach(async () => {
  folder = await temporaryFolder()
})

async function write(name: string, bytes: Buffer | string): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, bytes)
  return path
}

describe('decodeImage', () => {
  // libjpeg-turbo is built by others for other machines and may round the last bit of its inverse DCT elsewhere.
  const tolerance = (name: string): number => (name.startsWith('JPEG') ? 1 : 0)

  it.each(fixture.cases)('sees $name as Pillow does', async ({ name, file, width, height, rgb }) => {
    await write('x', Buffer.from(file, 'base64'))
    const ref = await describeImage('x', folder)
    expect(ref).toMatchObject({ width, height })
    await checkReferenced(ref, folder)
    const image = await decodeReferenced(ref, folder)
    const reference = Buffer.from(rgb, 'base64')
    expect(image.rgb).toHaveLength(reference.length)
    const difference = Math.max(...reference.map((value, index) => Math.abs(value - image.rgb[index])))
    expect(difference).toBeLessThanOrEqual(tolerance(name))
  })

  /** Levels on both sides of every rounding that matters: 257 levels of 16 bits are one of 8. */
  const deep = [0, 128, 129, 385, 386, 32767, 32768, 65406, 65407, 65535]
  const scaled = [0, 0, 1, 1, 2, 127, 128, 254, 255, 255]

  it('scales 16-bit grey by round(v / 257)', async () => {
    const raw = { width: 5, height: 2, channels: 1 } as const
    const path = join(folder, 'deep.png')
    await sharp(Uint16Array.from(deep), { raw }).toColourspace('grey16').png().toFile(path)
    expect([...(await decodeImage(path)).rgb]).toEqual(scaled.flatMap((level) => [level, level, level]))
  })

  it('scales 16-bit colour and drops its alpha', async () => {
    const raw = { width: 2, height: 1, channels: 4 } as const
    const path = join(folder, 'deep.png')
    const pixels = [0, 129, 65535, 7, 386, 32768, 65406, 0]
    await sharp(Uint16Array.from(pixels), { raw }).toColourspace('rgb16').png().toFile(path)
    expect([...(await decodeImage(path)).rgb]).toEqual([0, 1, 255, 2, 128, 254])
  })

  it('notes 16 bits that hold 12, which show nearly black', async () => {
    const raw = { width: 3, height: 1, channels: 1 } as const
    const write16 = async (levels: number[]) =>
      sharp(Uint16Array.from(levels), { raw }).toColourspace('grey16').png().toFile(join(folder, 'x.png'))
    await write16([0, 2000, 4095])
    const { ref, notes } = await describeWithNotes('x.png', folder)
    const message = '16 bits, but the highest value is 4095 of 65535: nearly black'
    expect(notes).toEqual([{ kind: 'dark_16_bits', message }])
    expect(await examineReferenced(ref, folder)).toEqual(notes)
    await write16([0, 2000, 40950])
    expect((await describeWithNotes('x.png', folder)).notes).toEqual([])
  })

  it('takes a large image of 16 bits within the memory of its 8-bit pixels', async () => {
    const [width, height] = [5000, 3000]
    const path = join(folder, 'large.png')
    const levels = new Uint16Array(width * height).fill(30_000)
    await sharp(levels, { raw: { width, height, channels: 1 } })
      .toColourspace('grey16')
      .png()
      .toFile(path)
    const before = process.memoryUsage.rss()
    const image = await decodeImage(path)
    expect(image.rgb).toHaveLength(width * height * 3)
    expect(image.rgb[0]).toBe(117)
    expect(process.memoryUsage.rss() - before).toBeLessThan(250 * 2 ** 20)
  })

  it('takes the smallest image and a very wide one', async () => {
    for (const [width, height] of [
      [1, 1],
      [16384, 3],
    ]) {
      const path = join(folder, 'x.png')
      await sharp({ create: { width, height, channels: 3, background: '#010203' } })
        .png()
        .toFile(path)
      const image = await decodeImage(path)
      expect(image).toMatchObject({ width, height })
      expect([...image.rgb.subarray(-3)]).toEqual([1, 2, 3])
    }
  })
})

describe('decodeReferenced', () => {
  it('holds a file against its reference', async () => {
    const ref = await writeImage(folder, 'x.png', 5)
    await expect(decodeReferenced(ref, folder)).resolves.toMatchObject({ id: ref.sha256 })
    await expect(checkReferenced({ ...ref, sha256: '0'.repeat(64) }, folder)).rejects.toThrow(
      /is not the image of the record/,
    )
    await expect(checkReferenced({ ...ref, width: 31 }, folder)).rejects.toThrow(/is 32 x 32, the record says 31 x 32/)
    await expect(decodeReferenced({ ...ref, height: 31 }, folder)).rejects.toThrow(DataError)
  })
})

describe('an image that is refused', () => {
  it.each([
    ['an empty file', 'x.png', '', /x\.png is not a PNG, .*: it is empty/],
    ['text', 'x.png', 'not a picture', /x\.png is not a PNG, .*: it starts with "not a pictur"/],
    ['HTML', 'x.jpg', '<!doctype html><title>404</title>', /it starts with "<!doctype ht/],
    ['a signature and nothing more', 'x.png', Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), /cannot be read as an image/],
  ])('is %s', async (_kind, name, bytes, message) => {
    const path = await write(name, bytes)
    await expect(decodeImage(path)).rejects.toThrow(DataError)
    await expect(decodeImage(path)).rejects.toThrow(message)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    await expect(checkReferenced({ path: name, sha256, width: 1, height: 1 }, folder)).rejects.toThrow(message)
  })

  it.each([
    ['an SVG', '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'],
    ['a GIF', 'GIF89a\x01\0\x01\0\0\0\0;'],
    ['an animated GIF', 'GIF89a\x01\0\x01\0\0\0\0!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0;'],
    ['a BMP', 'BM\0\0\0\0'],
    ['a TIFF', 'II*\0\x08\0\0\0'],
    ['a TIFF', 'MM\0*\0\0\0\x08'],
    ['a JPEG 2000', '\0\0\0\x0cjP  \r\n'],
    ['a HEIC', '\0\0\0\x18ftypheic'],
  ])('is %s, and is named as one', async (what, bytes) => {
    const path = await write('x.png', Buffer.from(bytes, 'latin1'))
    const error = await decodeImage(path).catch((reason) => reason)
    expect(error).toBeInstanceOf(UnsupportedError)
    expect(error.message).toBe(`${path}: it is not a PNG, JPEG, WebP or DICOM file but ${what}`)
    expect(error.hint).toMatch(/PNG/)
  })

  it('is a Git LFS pointer', async () => {
    const path = await write('x.png', 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n')
    await expect(decodeImage(path)).rejects.toMatchObject({
      message: expect.stringContaining('x.png is a Git LFS pointer'),
      hint: expect.stringContaining('git lfs pull'),
    })
  })

  it('is a pipe or a device, without waiting for it', async () => {
    const pipe = join(folder, 'pipe.png')
    execFileSync('mkfifo', [pipe])
    for (const path of [pipe, '/dev/zero']) await expect(decodeImage(path)).rejects.toThrow(/is a pipe or device/)
  })

  it('changes while it is read', async () => {
    const path = await write('x.png', Buffer.alloc(2 ** 22))
    const written = (async () => {
      for (let round = 0; round < 200; round += 1) await appendFile(path, 'x')
    })()
    const seen = await Promise.all(Array.from({ length: 40 }, () => decodeImage(path).catch((error) => error.message)))
    await written
    expect(seen.some((message) => message.includes('x.png changed while it was read'))).toBe(true)
  })

  it('is not there, or a folder', async () => {
    await expect(decodeImage(join(folder, 'none.png'))).rejects.toThrow(FileError)
    await expect(decodeImage(join(folder, 'none.dcm#2'))).rejects.toThrow(/none\.dcm failed: no such file/)
    await mkdir(join(folder, 'd.png'))
    await expect(decodeImage(join(folder, 'd.png'))).rejects.toThrow(/d\.png failed: it is a folder/)
  })

  it('is truncated: never a grey half', async () => {
    for (const { name, file } of fixture.cases) {
      const bytes = Buffer.from(file, 'base64')
      for (const kept of [0.2, 0.4, 0.6, 0.8]) {
        const path = await write('cut', bytes.subarray(0, Math.floor(bytes.length * kept)))
        await expect(decodeImage(path), `${name}, ${kept}`).rejects.toThrow(DataError)
      }
    }
  })

  it('is a JPEG with a hole, closed again', async () => {
    const { file } = fixture.cases.find(({ name }) => name === 'JPEG, subsampling 0') as Case
    const bytes = Buffer.from(file, 'base64')
    const half = bytes.subarray(0, bytes.length - 120)
    const path = await write('hole.jpg', Buffer.concat([half, Buffer.from([0xff, 0xd9])]))
    await expect(decodeImage(path)).rejects.toThrow(/hole\.jpg cannot be read as an image/)
  })

  it('declares more pixels than any scanner makes, whatever it holds', async () => {
    const bomb = await write('bomb.png', png(60_000, 60_000, deflateSync(Buffer.alloc(1000))))
    const error = await decodeImage(bomb).catch((reason) => reason)
    expect(error).toBeInstanceOf(DataError)
    expect(error.message).toContain('bomb.png declares 60000 x 60000 pixels')
    await expect(describeImage('bomb.png', folder)).rejects.toThrow(/declares 60000 x 60000/)
  })

  it('is animated', async () => {
    const path = await write('x.webp', Buffer.from(fixture.animated, 'base64'))
    await expect(decodeImage(path)).rejects.toThrow(UnsupportedError)
    await expect(decodeImage(path)).rejects.toThrow(/x\.webp: an animation of 2 pictures/)
  })

  it('is an animation in the form of a PNG', async () => {
    const still = await sharp({ create: { width: 4, height: 4, channels: 3, background: '#123456' } })
      .png()
      .toBuffer()
    const control = Buffer.from('000000086163544c0000000300000000', 'hex')
    const path = await write(
      'x.png',
      Buffer.concat([still.subarray(0, 33), control, Buffer.alloc(4), still.subarray(33)]),
    )
    await expect(decodeImage(path)).rejects.toThrow(/x\.png: an animation of 3 pictures/)
  })

  it('has no frames to choose from', async () => {
    await writeImage(folder, 'x.png', 5)
    await expect(decodeImage(join(folder, 'x.png#1'))).rejects.toThrow(/only DICOM files have frames/)
  })
})

/** A PNG of 8-bit RGB with this size and these compressed rows. */
function png(width: number, height: number, rows: Buffer): Buffer {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, 2, 0, 0, 0], 8)
  const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1')
  return Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', rows), chunk('IEND', Buffer.alloc(0))])
}

function chunk(kind: string, body: Buffer): Buffer {
  const checked = Buffer.concat([Buffer.from(kind, 'latin1'), body])
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length)
  const check = Buffer.alloc(4)
  check.writeUInt32BE(crc32(checked))
  return Buffer.concat([length, checked, check])
}

function crc32(bytes: Buffer): number {
  let crc = ~0
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1))
  }
  return ~crc >>> 0
}
