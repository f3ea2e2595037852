/**
 * Reads and writes safetensors files that fit in memory: an 8-byte little-endian header length, a JSON header of dtypes,
 * shapes and offsets, then the bytes. The engine has its own reader, by mmap; this one makes benchmark inputs.
 */
import { readFile } from 'node:fs/promises'
import { writeFileAtomic } from '../data/files.js'
import { asFileError, DataError } from '../errors.js'

const itemBytes = { I64: 8, F32: 4, BF16: 2, U8: 1 } as const

export interface Tensor {
  dtype: keyof typeof itemBytes
  shape: number[]
  /** Row-major, little-endian. */
  data: Uint8Array
}

interface Entry {
  dtype: Tensor['dtype']
  shape: number[]
  data_offsets: [number, number]
}

export const float32 = (values: Float32Array, shape: number[]): Tensor => ({ dtype: 'F32', shape, data: bytes(values) })

export const int64 = (values: ArrayLike<number>): Tensor => ({
  dtype: 'I64',
  shape: [values.length],
  data: bytes(BigInt64Array.from(values as ArrayLike<unknown> as number[], BigInt)),
})

/** Rounds to nearest, ties to even; the values must be finite. */
export function bfloat16(values: Float32Array, shape: number[]): Tensor {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const rounded = new Uint16Array(bits.length)
  for (let i = 0; i < bits.length; i++) rounded[i] = (bits[i] + 0x7fff + ((bits[i] >>> 16) & 1)) >>> 16
  return { dtype: 'BF16', shape, data: bytes(rounded) }
}

/** Ids and masks; every value must fit a double. */
export const toNumbers = (tensor: Tensor): number[] => Array.from(new BigInt64Array(tensor.data.buffer), Number)

/** Written atomically, wide types first so that every tensor is aligned. */
export async function writeSafetensors(path: string, tensors: ReadonlyMap<string, Tensor>): Promise<void> {
  const ordered = [...tensors].sort(([, a], [, b]) => itemBytes[b.dtype] - itemBytes[a.dtype])
  const header: Record<string, Entry | Record<string, string>> = { __metadata__: { format: 'pt' } }
  let end = 0
  for (const [name, { dtype, shape, data }] of ordered) {
    const expected = shape.reduce((size, extent) => size * extent, itemBytes[dtype])
    if (data.length !== expected) throw new DataError(`${name} has ${data.length} bytes, its shape needs ${expected}`)
    header[name] = { dtype, shape, data_offsets: [end, end + data.length] }
    end += data.length
  }
  const json = JSON.stringify(header)
  const length = Math.ceil(Buffer.byteLength(json) / 8) * 8
  const prefix = Buffer.alloc(8 + length, ' ')
  prefix.writeBigUInt64LE(BigInt(length))
  prefix.write(json, 8)
  await writeFileAtomic(path, Buffer.concat([prefix, ...ordered.map(([, { data }]) => data)]))
}

/** Every tensor in a buffer of its own. @throws {DataError} when the header does not fit the file. */
export async function readSafetensors(path: string): Promise<Map<string, Tensor>> {
  const file = await readFile(path).catch(asFileError('Reading', path))
  const start = file.length < 8 ? Number.NaN : 8 + Number(file.readBigUInt64LE())
  if (!(start <= file.length)) throw new DataError(`${path} is not a safetensors file, or was cut short`)
  const header = JSON.parse(file.toString('utf8', 8, start)) as Record<string, Entry>
  const entries = Object.entries(header).filter(([name]) => name !== '__metadata__')
  return new Map(
    entries.map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [from, to],
        },
      ]) => {
        if (start + to > file.length)
          throw new DataError(`${path} was cut short: ${name} ends past the end of the file`)
        return [name, { dtype, shape, data: Uint8Array.from(file.subarray(start + from, start + to)) }]
      },
    ),
  )
}

function bytes(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
}
