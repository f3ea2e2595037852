/**
 * Our files read by somebody else: npm's `safetensors`. It throws on `__metadata__`, which every file of ours has, and takes a
 * buffer's whole memory for the file; so the entry is blanked, in place, and the file stands in memory of its own.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
// @ts-expect-error it has no types
import npm from 'safetensors'
import { describe, expect, it } from 'vitest'
import {
  bfloat16,
  float32,
  int64,
  readSafetensors,
  type Tensor,
  writeSafetensors,
} from '../../src/bench/safetensors.js'
import { temporaryFolder } from '../fakes/world.js'

interface Reader {
  metadata: Map<string, { dtype: string; shape: number[] }>
  getTensor(name: string): Uint8Array
}

/** The same file without its `__metadata__`; offsets count from the end of the header, whose length stays. */
function withoutMetadata(file: Buffer): Uint8Array {
  const length = Number(file.readBigUInt64LE())
  const { __metadata__, ...tensors } = JSON.parse(file.toString('utf8', 8, 8 + length))
  expect(__metadata__).toBeDefined()
  const blanked = new Uint8Array(file.length)
  blanked.set(file)
  blanked.fill(0x20, 8, 8 + length)
  blanked.set(new TextEncoder().encode(JSON.stringify(tensors)), 8)
  return blanked
}

async function expectSame(path: string, tensors: ReadonlyMap<string, Tensor>): Promise<void> {
  const reader: Reader = new npm.SafeTensor(withoutMetadata(await readFile(path)))
  expect([...reader.metadata.keys()].sort()).toEqual([...tensors.keys()].sort())
  for (const [name, { dtype, shape, data }] of tensors) {
    expect(reader.metadata.get(name)).toMatchObject({ dtype, shape })
    expect(Buffer.compare(reader.getTensor(name), data), name).toBe(0)
  }
}

describe("npm's reader", () => {
  it('finds in a file of our writer what was written', async () => {
    const tensors = new Map([
      ['rgb', { dtype: 'U8' as const, shape: [1, 1, 3], data: Uint8Array.of(1, 2, 3) }],
      ['ids', int64([5, -1, 2 ** 40])],
      ['half', bfloat16(Float32Array.of(0.5, -2, 3.25), [3])],
      ['weights', float32(Float32Array.of(0.5, -2), [2, 1])],
      ['πλ', float32(Float32Array.of(1), [])],
    ])
    const path = join(await temporaryFolder(), 'a.safetensors')
    await writeSafetensors(path, tensors)
    await expectSame(path, tensors)
  })

  it('finds in an adapter of the engine what our reader finds', async () => {
    const path = fileURLToPath(new URL('../golden/peft/ours/qwen3_vl/adapter_model.safetensors', import.meta.url))
    await expectSame(path, await readSafetensors(path))
  })

  it('still throws on `__metadata__`, which is why nothing else uses it', async () => {
    const file = await readFile(new URL('../golden/peft/ours/qwen3_vl/adapter_model.safetensors', import.meta.url))
    expect(() => new npm.SafeTensor(new Uint8Array(file))).toThrow()
  })
})
