/**
 * Metrics as TensorBoard reads them: an event file of scalars, a TFRecord of Event messages.
 * https://www.tensorflow.org/tutorials/load_data/tfrecord and tensorboard/compat/proto/{event,summary}.proto.
 */
import { type FileHandle, open, readdir, rm, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder } from '../data/files.js'
import { asFileError, fileError } from '../errors.js'
import type { LogRow } from './metrics.js'

/**
 * The event file of a run. It always holds what metrics.jsonl holds: opening writes the rows that are kept into a new file and
 * empties those of earlier calls. The new file begins with a session start at step 0, so a TensorBoard that watched the run
 * drops what it had read, instead of showing steps twice.
 */
export class EventFile {
  readonly #path: string
  readonly #file: FileHandle

  private constructor(path: string, file: FileHandle) {
    this.#path = path
    this.#file = file
  }

  /** @param rows what the run has measured so far. */
  static async open(folder: string, rows: readonly LogRow[]): Promise<EventFile> {
    const seconds = Math.floor(Date.now() / 1000)
    // TensorBoard goes on with the next name in alphabetical order.
    const name = `events.out.tfevents.${seconds}.${process.pid}.fire-train`
    const path = join(folder, name)
    let file: FileHandle | undefined
    try {
      await makeFolder(folder)
      const earlier = (await readdir(folder)).filter((each) => each.includes('tfevents') && each !== name)
      file = await open(path, 'w')
      const head = [versionEvent(seconds), startEvent(seconds), ...rows.map(scalarsEvent)]
      await file.appendFile(Buffer.concat(head.map(record)))
      for (const each of earlier) await clear(join(folder, each))
      return new EventFile(path, file)
    } catch (error) {
      await file?.close()
      throw fileError(error, 'Writing', path)
    }
  }

  async append(row: LogRow): Promise<void> {
    await this.#file.appendFile(record(scalarsEvent(row))).catch(asFileError('Writing', this.#path))
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

/** A TensorBoard that reads the file goes on with the next one at its end, but stays where one is gone. */
async function clear(path: string): Promise<void> {
  const { size } = await stat(path)
  await (size === 0 ? rm(path) : truncate(path))
}

/** As Hugging Face's trainers call it there: `train/loss`, and `eval/loss` of `eval_loss`. */
export function tagOf(key: string): string {
  return key.startsWith('eval_') ? `eval/${key.slice('eval_'.length)}` : `train/${key}`
}

/** Event: wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7. */
const event = (wallTime: number, step: number, ...fields: Buffer[]): Buffer =>
  Buffer.concat([float64(1, wallTime), integer(2, step), ...fields])

const versionEvent = (wallTime: number): Buffer => event(wallTime, 0, bytes(3, Buffer.from('brain.Event:2')))

/** SessionLog: status = 1, of which START is 1. */
const startEvent = (wallTime: number): Buffer => event(wallTime, 0, bytes(7, integer(1, 1)))

/** Summary: value = 1; Summary.Value: tag = 1, simple_value = 2. */
function scalarsEvent({ step, wall_time: wallTime = 0, ...scalars }: LogRow): Buffer {
  const values = Object.entries(scalars).map(([key, value]) =>
    bytes(1, Buffer.concat([bytes(1, Buffer.from(tagOf(key))), float32(2, value)])),
  )
  return event(wallTime, step, bytes(5, Buffer.concat(values)))
}

/** Protocol Buffers: a field is its number and wire type, then the value. */
const wire = { varint: 0, fixed64: 1, delimited: 2, fixed32: 5 } as const

const key = (field: number, type: keyof typeof wire): number => (field << 3) | wire[type]

const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))]

const integer = (field: number, value: number): Buffer => Buffer.from([key(field, 'varint'), ...varint(value)])

const bytes = (field: number, content: Buffer): Buffer =>
  Buffer.concat([Buffer.from([key(field, 'delimited'), ...varint(content.length)]), content])

function float64(field: number, value: number): Buffer {
  const buffer = Buffer.from([key(field, 'fixed64'), ...new Array<number>(8).fill(0)])
  buffer.writeDoubleLE(value, 1)
  return buffer
}

function float32(field: number, value: number): Buffer {
  const buffer = Buffer.from([key(field, 'fixed32'), 0, 0, 0, 0])
  buffer.writeFloatLE(value, 1)
  return buffer
}

/** TFRecord: length, its checksum, content, its checksum. */
function record(content: Buffer): Buffer {
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(content.length))
  return Buffer.concat([length, checksum(length), content, checksum(content)])
}

/** The masked CRC-32C of TFRecord. */
function checksum(content: Buffer): Buffer {
  const crc = crc32c(content)
  const masked = Buffer.alloc(4)
  masked.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0)
  return masked
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1
  return value
})

/** Castagnoli's; Node's zlib has the other one. */
function crc32c(content: Buffer): number {
  let crc = 0xffffffff
  for (const byte of content) crc = table[(crc ^ byte) & 255] ^ (crc >>> 8)
  return ~crc >>> 0
}
