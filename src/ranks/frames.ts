/** What goes over a connection between ranks: JSON objects, each with its length before it. */
import type { Socket } from 'node:net'
import { RankError } from '../errors.js'

export type Message = Record<string, unknown>

/** Bytes of a frame: before the other side has proved who it is, and after. */
export const mostBytes = { stranger: 1024, member: 64 * 2 ** 20 } as const

const prefixBytes = 4

/** @throws {RankError} for a message that no reader would take. */
export function frame(message: Message): Buffer {
  const body = Buffer.from(encode(message))
  if (body.length > mostBytes.member) {
    const [size, most] = [body.length, mostBytes.member].map((bytes) => `${Math.ceil(bytes / 2 ** 20)} MiB`)
    throw new RankError(`${size} are too much for one message between ranks: at most ${most}`)
  }
  const prefix = Buffer.alloc(prefixBytes)
  prefix.writeUInt32BE(body.length)
  return Buffer.concat([prefix, body])
}

/** A frame to whoever still takes it. */
export function write(socket: Socket, bytes: Buffer): void {
  if (socket.writable) socket.write(bytes)
}

/** Ends a connection after what was written. The other side ends it too; where it does not, nobody waits for it. */
export async function end(socket: Socket): Promise<void> {
  if (socket.destroyed) return
  const timer = setTimeout(() => socket.destroy(), flushMs)
  await new Promise<void>((resolve) => {
    socket.once('close', () => resolve())
    socket.end()
    // What nobody reads any more would keep it from its end.
    socket.resume()
  })
  clearTimeout(timer)
}

const flushMs = 2000

/**
 * The messages of one connection, to its end.
 * @param limit bytes of a frame; read for each, as it rises once the other side is known.
 * @throws {RankError} for bytes that are no such messages. What the system says of a connection that broke counts as its end.
 */
export async function* messagesOf(socket: Socket, limit: () => number): AsyncGenerator<Message, void> {
  let chunks: Buffer[] = []
  let held = 0
  for await (const chunk of chunksOf(socket)) {
    chunks.push(chunk)
    held += chunk.length
    while (held >= prefixBytes) {
      const needed = prefixBytes + lengthOf(chunks)
      if (needed - prefixBytes > limit()) throw new RankError('what came is no message of a rank')
      if (held < needed) break
      const all = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)
      chunks = [all.subarray(needed)]
      held -= needed
      yield parse(all.subarray(prefixBytes, needed))
    }
  }
}

async function* chunksOf(socket: Socket): AsyncGenerator<Buffer, void> {
  try {
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) yield chunk
  } catch {
    // Reset, or closed in the middle: there is nothing more to read.
  }
}

function lengthOf(chunks: Buffer[]): number {
  if (chunks[0].length < prefixBytes) chunks.splice(0, chunks.length, Buffer.concat(chunks))
  return chunks[0].readUInt32BE()
}

function parse(body: Buffer): Message {
  try {
    const value = decode(body.toString())
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Message
  } catch {
    // Said below.
  }
  throw new RankError('what came is no message of a rank')
}

/** JSON has no NaN and no infinity, and losses may be either. */
export const encode = (value: unknown): string => JSON.stringify(value, encodeNumber)

/** @throws {SyntaxError} */
export const decode = (text: string): unknown => JSON.parse(text, decodeNumber)

const encodeNumber = (_: string, value: unknown): unknown =>
  typeof value === 'number' && !Number.isFinite(value) ? { $number: String(value) } : value

const decodeNumber = (_: string, value: unknown): unknown => (isOddNumber(value) ? Number(value.$number) : value)

const isOddNumber = (value: unknown): value is { $number: string } =>
  ['NaN', 'Infinity', '-Infinity'].includes((value as { $number?: string } | null)?.$number ?? '')
