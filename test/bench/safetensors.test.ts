import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { bfloat16, float32, int64, readSafetensors, toNumbers, writeSafetensors } from '../../src/bench/safetensors.js'
import { DataError, FileError } from '../../src/errors.js'
import { temporaryFolder } from '../fakes/world.js'

let folder: string

beforeAll(async () => {
  folder = await temporaryFolder()
})

describe('safetensors', () => {
  it('reads back what it wrote, in aligned buffers', async () => {
    const path = join(folder, 'round.safetensors')
    const tensors = new Map([
      ['rgb', { dtype: 'U8' as const, shape: [1, 1, 3], data: Uint8Array.of(1, 2, 3) }],
      ['ids', int64([5, -1, 2 ** 40])],
      ['weights', float32(Float32Array.of(0.5, -2), [2, 1])],
    ])
    await writeSafetensors(path, tensors)
    const read = await readSafetensors(path)
    expect(read).toEqual(tensors)
    expect(toNumbers(read.get('ids')!)).toEqual([5, -1, 2 ** 40])
    const file = await readFile(path)
    expect(Number(file.readBigUInt64LE()) % 8).toBe(0)
  })

  it('rounds to bfloat16 to nearest, ties to even', () => {
    // 1 + 2^-8 and 1 + 3 * 2^-8 lie halfway between neighbours.
    const values = [1, -1.5, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20]
    const { data } = bfloat16(Float32Array.from(values), [values.length])
    expect([...new Uint16Array(data.buffer)]).toEqual([0x3f80, 0xbfc0, 0x3f80, 0x3f82, 0x3f81])
  })

  it('refuses shapes that do not fit and files that were cut short', async () => {
    const path = join(folder, 'wrong.safetensors')
    const wrong = new Map([['w', float32(new Float32Array(3), [2, 2])]])
    await expect(writeSafetensors(path, wrong)).rejects.toThrow('w has 12 bytes, its shape needs 16')
    await writeSafetensors(path, new Map([['w', float32(new Float32Array(4), [2, 2])]]))
    const whole = await readFile(path)
    for (const length of [0, 7, 20, whole.length - 1]) {
      await writeFile(path, whole.subarray(0, length))
      await expect(readSafetensors(path), `${length} bytes`).rejects.toThrow(DataError)
    }
    await expect(readSafetensors(join(folder, 'none'))).rejects.toThrow(FileError)
  })
})
