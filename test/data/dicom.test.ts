/** DICOM files against what pydicom shows of them (`generate_dicom.py` made the reference), and hostile ones. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import {
  checkReferenced,
  decodeImage,
  decodeReferenced,
  describeImage,
  describeWithNotes,
  examineReferenced,
} from '../../src/data/images.js'
import { DataError, UnsupportedError } from '../../src/errors.js'
import { temporaryFolder } from '../fakes/world.js'

interface Case {
  name: string
  file: string
  rgb: string
  tolerance: number
  frame?: number
}

const fixture = JSON.parse(readFileSync(new URL('./fixtures/dicom.json', import.meta.url), 'utf8')) as {
  width: number
  height: number
  cases: Case[]
}
const bytesOf = (name: string): Buffer => {
  const found = fixture.cases.find((entry) => entry.name === name)
  if (!found) throw new Error(`no case ${name}`)
  return Buffer.from(found.file, 'base64')
}

let folder: string

beforeEach(async () => {
  folder = await temporaryFolder()
})

async function write(bytes: Buffer, name = 'x.dcm'): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, bytes)
  return path
}

describe('DICOM', () => {
  const shown = fixture.cases.filter(({ name }) => !name.startsWith('refused'))

  it.each(shown)('shows $name as pydicom does', async ({ file, rgb, tolerance, frame }) => {
    await write(Buffer.from(file, 'base64'))
    const name = frame === undefined ? 'x.dcm' : `x.dcm#${frame}`
    const ref = await describeImage(name, folder)
    expect(ref).toMatchObject({ path: name, width: fixture.width, height: fixture.height })
    await checkReferenced(ref, folder)
    const image = await decodeReferenced(ref, folder)
    const reference = Buffer.from(rgb, 'base64')
    expect(image.rgb).toHaveLength(reference.length)
    const difference = Math.max(...reference.map((value, index) => Math.abs(value - image.rgb[index])))
    // Exact but for lossy JPEG, where another build of libjpeg-turbo may round the last bit of its inverse DCT.
    expect(difference).toBeLessThanOrEqual(tolerance)
  })

  it('needs the frame of several, and keeps frames apart', async () => {
    const path = await write(bytesOf('frame 1 of 3'))
    await expect(decodeImage(path)).rejects.toThrow(DataError)
    await expect(decodeImage(path)).rejects.toMatchObject({
      message: expect.stringContaining('x.dcm has 3 frames'),
      hint: expect.stringContaining('x.dcm#1 to '),
    })
    await expect(decodeImage(`${path}#4`)).rejects.toThrow(/x\.dcm#4: the file has 3 frames/)
    const [first, second] = [await decodeImage(`${path}#1`), await decodeImage(`${path}#2`)]
    expect(first.id).not.toBe(second.id)
  })

  it('prefers a file whose name looks like a frame', async () => {
    await write(bytesOf('8 bits'), 'x.dcm#2')
    await expect(decodeImage(join(folder, 'x.dcm#2'))).resolves.toMatchObject({ width: fixture.width })
  })
})

describe('a window that shows nothing', () => {
  const name = 'CT window, Explicit VR Little Endian'
  const withWidths = (widths: string): Buffer =>
    Buffer.from(bytesOf(name).toString('latin1').replace('400\\1500', widths), 'latin1')

  it('is passed over for the next one, and noted', async () => {
    await write(withWidths('0.0\\1500'))
    const { notes } = await describeWithNotes('x.dcm', folder)
    expect(notes).toEqual([
      { kind: 'window_replaced', message: 'a window of centre 40 and width 0 shows nothing and is passed over' },
    ])
    const { rgb } = await decodeImage(join(folder, 'x.dcm'))
    expect(rgb).not.toEqual((await decodeImage(await write(bytesOf(name), 'y.dcm'))).rgb)
  })

  it('leaves the range of the image where there is no other', async () => {
    await write(withWidths('0.0\\0.50'))
    const { ref, notes } = await describeWithNotes('x.dcm', folder)
    expect(notes.map(({ message }) => message).join()).toContain('centre -600 and width 0.5')
    expect(await examineReferenced(ref, folder)).toEqual(notes)
    const { rgb } = await decodeImage(join(folder, 'x.dcm'))
    expect([Math.min(...rgb), Math.max(...rgb)]).toEqual([0, 255])
  })
})

describe('a DICOM file that cannot be shown', () => {
  const name = 'CT window, Explicit VR Little Endian'

  /** Overwrites the 16-bit value of an explicit little endian element. */
  function patched(group: number, element: number, value: number, from = name): Buffer {
    const bytes = bytesOf(from)
    const tag = Buffer.alloc(4)
    tag.writeUInt16LE(group, 0)
    tag.writeUInt16LE(element, 2)
    bytes.writeUInt16LE(value, bytes.indexOf(tag, 132) + 8)
    return bytes
  }

  /** Replaces text of the same length. */
  const replaced = (from: string, to: string, file = name): Buffer =>
    Buffer.from(bytesOf(file).toString('latin1').replace(from, to), 'latin1')

  async function expectUndecodable(bytes: Buffer, type: typeof DataError | typeof UnsupportedError, message: RegExp) {
    const path = await write(bytes)
    const error = await decodeImage(path).catch((reason) => reason)
    expect(error).toBeInstanceOf(type)
    expect(error.message).toMatch(message)
    expect(error.message).toContain('x.dcm')
    return error
  }

  /** The check of the header refuses what decoding refuses, in the same words. */
  async function expectRefused(...[bytes, type, message]: Parameters<typeof expectUndecodable>) {
    const error = await expectUndecodable(bytes, type, message)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const { width, height } = fixture
    await expect(checkReferenced({ path: 'x.dcm', sha256, width, height }, folder)).rejects.toThrow(error.message)
    return error
  }

  it('has no rows, or absurdly many', async () => {
    await expectRefused(patched(0x28, 0x10, 0), DataError, /declares 12 x 0 pixels/)
    const huge = patched(0x28, 0x10, 65535)
    huge.writeUInt16LE(65535, huge.indexOf(Buffer.from('28001100', 'hex')) + 8)
    await expectRefused(huge, DataError, /declares 65535 x 65535 pixels/)
    await expectUndecodable(patched(0x28, 0x10, 11), DataError, /truncated: 240 bytes of pixel data where 264 were/)
  })

  it('is truncated', async () => {
    for (const { name, file } of fixture.cases.filter((entry) => !/refused|functional|#|frame/.test(entry.name))) {
      const bytes = Buffer.from(file, 'base64')
      // Half of the pixel data, and a file that ends within its attributes.
      for (const length of [bytes.length - 60, 400, 140]) {
        const path = await write(bytes.subarray(0, length))
        await expect(decodeImage(path), `${name}, ${length} bytes`).rejects.toThrow(DataError)
      }
    }
  })

  it('is truncated inside its compressed stream', async () => {
    for (const { name, file } of fixture.cases.filter((entry) => /^(JPEG|RLE)/.test(entry.name))) {
      const bytes = Buffer.from(file, 'base64')
      // The last item holds the stream: cut it by a third and close the sequence again.
      const item = bytes.lastIndexOf(Buffer.from('feff00e0', 'hex'))
      const kept = Math.floor(bytes.readUInt32LE(item + 4) / 3) * 2
      bytes.writeUInt32LE(kept, item + 4)
      const end = Buffer.from('feffdde000000000', 'hex')
      const path = await write(Buffer.concat([bytes.subarray(0, item + 8 + kept), end]))
      const error = await decodeImage(path).catch((reason) => reason)
      expect(error, name).toBeInstanceOf(DataError)
      expect(error.message, name).toMatch(/truncated|a segment ends after/)
    }
  })

  it('declares samples that cannot be', async () => {
    await expectRefused(patched(0x28, 0x101, 17), DataError, /impossible samples: 17 bits/)
    await expectRefused(patched(0x28, 0x102, 5), DataError, /impossible samples: 12 bits below bit 5/)
    await expectRefused(patched(0x28, 0x100, 32), UnsupportedError, /32 bits per sample/)
    await expectRefused(patched(0x28, 0x2, 3), DataError, /3 samples for MONOCHROME2/)
  })

  it('is of a kind we do not show', async () => {
    const syntax = await expectRefused(
      replaced('1.2.840.10008.1.2.1', '1.2.840.10008.1.2.9'),
      UnsupportedError,
      /1\.2\.9/,
    )
    expect(syntax.hint).toContain('dcmtk')
    await expectRefused(replaced('MONOCHROME2', 'HSVMODEL000'), UnsupportedError, /"HSVMODEL000"/)
    await expectUndecodable(
      replaced('LINEAR_EXACT', 'CUBIC       ', 'window LINEAR_EXACT'),
      UnsupportedError,
      /"CUBIC"/,
    )
    await expectUndecodable(bytesOf('refused: JPEG Extended, 12 bits'), UnsupportedError, /JPEG of 12 bits/)
  })

  it('has pixels that are floating-point numbers', async () => {
    await expectRefused(replaced('\xe0\x7f\x10\x00', '\xe0\x7f\x08\x00'), UnsupportedError, /floating-point numbers/)
  })

  it('holds another image than it declares', async () => {
    for (const name of [
      'JPEG 2000 Image Compression (Lossless Only), 16 bits',
      'JPEG-LS Lossless Image Compression, 8 bits',
    ]) {
      await expectUndecodable(
        patched(0x28, 0x10, 9, name),
        DataError,
        /compressed image is 12 x 10 x 1, the file declares/,
      )
    }
  })

  it('has no pixel data', async () => {
    await expectRefused(replaced('\xe0\x7f\x10\x00', '\xe0\x7f\x10\x01'), DataError, /without pixel data/)
  })
})
