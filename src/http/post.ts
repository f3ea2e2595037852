/** One question to a JSON service: bounded in time and size, sent to no other address, and silent about its key. */
import { fetch } from 'undici'
import { z } from 'zod'
import { ConfigError, type FireError, type FireErrorOptions, throwIfAborted } from '../errors.js'
import { fromJson, keepSecret, redact, redactSaid } from '../secrets.js'
import { connectionError, TransientError } from './failure.js'
import { wayTo } from './proxy.js'
import { isKey, printable } from './service.js'

export interface PostOptions {
  /** Names the service in errors. */
  what: string
  key?: string
  /** Headers that carry the key as it is; `authorization`, the default, has it as a bearer token. */
  keyHeaders?: readonly string[]
  /** For the whole answer. */
  timeoutMs: number
  /** Longest answer, after decompression. */
  maxBytes: number
  signal?: AbortSignal
  /** Class of the failures that no further attempt mends. */
  Failure: new (
    message: string,
    options: FireErrorOptions,
  ) => FireError
}

export interface Answer {
  status: number
  headers: Pick<Headers, 'get'>
  /** Where it is not JSON. */
  text: string
  /** `undefined` when the answer is not JSON. */
  json: unknown
  /** What the server said in a few words, to be put behind a message: `: words`, or nothing. */
  readonly said: string
}

/** Room for what a server says about itself in a message of ours. */
const saidLength = 200

/** The last event of a stream, after which some servers keep the connection open. */
const endOfStream = /\ndata: *\[DONE\]/

/** The places where servers put what went wrong. */
const words = z.union([z.string(), z.object({ message: z.string() }).transform(({ message }) => message)])
const refusal = z.union([
  z.object({ error: words }).transform(({ error }) => error),
  z.object({ detail: z.string() }).transform(({ detail }) => detail),
  z.object({ message: z.string() }).transform(({ message }) => message),
])

/**
 * The answer to a body, whatever its status (but no redirect). What the server says of the key is taken out of it.
 * @throws {TransientError} without an answer in time, when the connection breaks, and for an answer that is too long.
 * @throws `Failure` when there is no such server, or it redirects; the signal's reason when it was aborted.
 */
export async function postJson(address: URL, body: object, options: PostOptions): Promise<Answer> {
  const { what, key = '', keyHeaders = ['authorization'], timeoutMs, maxBytes, signal, Failure } = options
  // What a library says of a header that it cannot send is the header.
  if (!isKey(key)) throw new ConfigError(`The key for ${what} cannot be sent`, { hint: 'Look at where it comes from.' })
  keepSecret(key)
  const limit = AbortSignal.timeout(timeoutMs)
  let answered = false
  try {
    const response = await fetch(address, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json',
        ...(key && Object.fromEntries(keyHeaders.map((name) => [name, carried(name, key)]))),
      },
      body: JSON.stringify(body),
      // Texts and images of patients go to the address that was given and to no other.
      redirect: 'manual',
      dispatcher: wayTo(address),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    })
    answered = true
    const { status, headers } = response
    if (status >= 300 && status < 400) {
      await response.body?.cancel()
      throw new Failure(`${what}: it redirects to ${placeIn(headers.get('location'), key)}, which is not followed`, {
        detail: { status },
        hint: 'Give the final address.',
      })
    }
    const bytes = await read(response.body ?? [], maxBytes, what)
    const json = parseJson(bytes)
    return {
      status,
      headers,
      text: json === undefined ? redact(new TextDecoder().decode(bytes)) : '',
      json,
      get said() {
        return saidBy(json, bytes, key)
      },
    }
  } catch (error) {
    throwIfAborted(signal)
    const silence = answered ? 'the answer did not end' : 'no answer'
    if (limit.aborted) throw new TransientError(`${what}: ${silence} in ${timeoutMs / 1000} s`)
    throw connectionError(error, what, address, Failure)
  }
}

const carried = (header: string, key: string): string => (/^authorization$/i.test(header) ? `Bearer ${key}` : key)

async function read(body: AsyncIterable<Uint8Array> | [], maxBytes: number, what: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  let tail = '\n'
  for await (const chunk of body) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new TransientError(`${what}: an answer of more than ${maxBytes} bytes`)
    chunks.push(chunk)
    tail = tail.slice(-16) + Buffer.from(chunk).toString('latin1')
    if (endOfStream.test(tail)) break
  }
  return Buffer.concat(chunks)
}

const strict = new TextDecoder('utf-8', { fatal: true })

/** Bytes that are not UTF-8 are no JSON: replaced characters would be another answer. */
function parseJson(bytes: Uint8Array): unknown {
  try {
    return fromJson(strict.decode(bytes))
  } catch {
    return undefined
  }
}

function saidBy(json: unknown, bytes: Uint8Array, key: string): string {
  const said = redactSaid(refusal.safeParse(json).data ?? new TextDecoder().decode(bytes), key)
    // Neither line breaks nor escape sequences.
    .replace(/[\s\p{Cc}\p{Cf}]+/gu, ' ')
    .trim()
  if (said === '') return ''
  return `: ${said.length > saidLength ? `${said.slice(0, saidLength)}…` : said}`
}

/** Where a redirect leads, without the query: it may hold a key. */
function placeIn(location: string | null, key: string): string {
  return location && URL.canParse(location) ? redactSaid(printable(location), key) : 'another place'
}
