/** Reads TensorBoard's event files, strictly: every checksum, every length, every wire type. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'

export interface ReadEvent {
  wallTime: number
  step: number
  fileVersion?: string
  /** SessionLog.SessionStatus */
  session?: number
  scalars?: Record<string, number>
}

/** Of the newest event file of a folder; others must be empty. */
export async function eventsOf(folder: string): Promise<ReadEvent[]> {
  const names = (await readdir(folder)).sort()
  for (const name of names) expect(name).toMatch(/^events\.out\.tfevents\.\d{10}\./)
  const files = await Promise.all(names.map((name) => readFile(join(folder, name))))
  for (const file of files.slice(0, -1)) expect(file).toHaveLength(0)
  return readEvents(files[files.length - 1])
}

export function readEvents(file: Buffer): ReadEvent[] {
  const events: ReadEvent[] = []
  for (let at = 0; at < file.length; ) {
    const length = Number(file.readBigUInt64LE(at))
    expect(file.readUInt32LE(at + 8)).toBe(masked(file.subarray(at, at + 8)))
    const content = file.subarray(at + 12, at + 12 + length)
    expect(file.readUInt32LE(at + 12 + length)).toBe(masked(content))
    events.push(readEvent(content))
    at += length + 16
  }
  return events
}

function readEvent(content: Buffer): ReadEvent {
  const event: ReadEvent = { wallTime: Number.NaN, step: Number.NaN }
  for (const { field, value } of fieldsOf(content)) {
    if (field === 1) event.wallTime = (value as Buffer).readDoubleLE()
    else if (field === 2) event.step = Number(value)
    else if (field === 3) event.fileVersion = String(value)
    else if (field === 7) event.session = Number(fieldsOf(value as Buffer)[0].value)
    else if (field === 5) event.scalars = Object.fromEntries(fieldsOf(value as Buffer).map(readScalar))
    else throw new Error(`field ${field}`)
  }
  return event
}

function readScalar({ field, value }: Field): [string, number] {
  const [tag, scalar, ...more] = fieldsOf(value as Buffer)
  expect([field, tag.field, scalar.field, more.length]).toEqual([1, 1, 2, 0])
  return [String(tag.value), (scalar.value as Buffer).readFloatLE()]
}

interface Field {
  field: number
  value: Buffer | bigint
}

function fieldsOf(message: Buffer): Field[] {
  const fields: Field[] = []
  let at = 0
  const varint = (): bigint => {
    for (let value = 0n, shift = 0n; ; shift += 7n) {
      const byte = message.readUInt8(at++)
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return value
    }
  }
  const take = (size: number): Buffer => {
    expect(at + size).toBeLessThanOrEqual(message.length)
    at += size
    return message.subarray(at - size, at)
  }
  while (at < message.length) {
    const key = Number(varint())
    const type = key & 7
    const value = type === 0 ? varint() : take(type === 1 ? 8 : type === 5 ? 4 : Number(varint()))
    expect([0, 1, 2, 5]).toContain(type)
    fields.push({ field: key >> 3, value })
  }
  return fields
}

/** CRC-32C bit by bit, rotated and shifted as TFRecord asks. */
function masked(content: Buffer): number {
  let crc = 0xffffffff
  for (const byte of content) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  }
  crc = ~crc >>> 0
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
}
