/** One question to a JSON service: bounded in time and size, sent to no other address, and silent about its key. */
import { z } from 'zod'
import { ConfigError, type FireError, type FireErrorOptions, throwIfAborted } from '../errors.js'
import { connectionError, TransientError } from './retry.js'

export interface PostOptions {
  /** Names the service in errors. */
  what: string
  /** Sent as a bearer token. */
  key?: string
  headers?: Record<string, string>
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
  headers: Headers
  /** `undefined` when the answer is not JSON. */
  json: unknown
  /** What the server said in a few words, to be put behind a message: `: words`, or nothing. */
  said: string
}

/** Shorter keys are placeholders such as "EMPTY" or "none", which answers may contain as words. */
const shortestSecret = 8

/** Room for what a server says about itself in a message of ours. */
const saidLength = 200

const refusal = z.object({ error: z.union([z.string(), z.object({ message: z.string() })]) })

/**
 * The answer to a body, whatever its status (but no redirect). What the server says of the key is taken out of it.
 * @throws {TransientError} without an answer in time, when the connection breaks, and for an answer that is too long.
 * @throws `Failure` when there is no such server, or it redirects; the signal's reason when it was aborted.
 */
export async function postJson(address: URL, body: object, options: PostOptions): Promise<Answer> {
  const { what, key = '', timeoutMs, maxBytes, signal, Failure } = options
  // What fetch says of a header that it cannot send is the header.
  if (!/^[\x21-\x7e]*$/.test(key)) {
    throw new ConfigError(`The key for ${what} holds a line break, a space or another character that cannot be sent`, {
      hint: 'Look at the variable that holds it.',
    })
  }
  const limit = AbortSignal.timeout(timeoutMs)
  try {
    const response = await fetch(address, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json',
        ...(key && { authorization: `Bearer ${key}` }),
        ...options.headers,
      },
      body: JSON.stringify(body),
      // Texts and images of patients go to the address that was given and to no other.
      redirect: 'manual',
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    })
    const { status, headers } = response
    const redact = redactor(key)
    if (status >= 300 && status < 400) {
      await response.body?.cancel()
      throw new Failure(`${what}: it redirects to ${redact(headers.get('location') ?? '')}, which is not followed`, {
        detail: { status },
        hint: 'Give the final address.',
      })
    }
    const text = await readText(response, maxBytes, what)
    const json = parseJson(text, key.length < shortestSecret ? undefined : redact)
    return { status, headers, json, said: saidBy(json, text, redact) }
  } catch (error) {
    throwIfAborted(signal)
    if (limit.aborted) throw new TransientError(`${what}: no answer in ${timeoutMs / 1000} s`)
    throw connectionError(error, what, Failure)
  }
}

async function readText({ body }: Response, maxBytes: number, what: string): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of body ?? []) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new TransientError(`${what}: an answer of more than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function parseJson(text: string, redact: ((text: string) => string) | undefined): unknown {
  try {
    return JSON.parse(text, redact && ((_, value) => (typeof value === 'string' ? redact(value) : value)))
  } catch {
    return undefined
  }
}

function saidBy(json: unknown, text: string, redact: (text: string) => string): string {
  const { error } = refusal.safeParse(json).data ?? { error: json === undefined ? text : JSON.stringify(json) }
  // Neither line breaks nor escape sequences reach a terminal.
  const words = redact(typeof error === 'string' ? error : error.message)
    .replace(/[\s\p{Cc}\p{Cf}]+/gu, ' ')
    .trim()
  if (words === '') return ''
  return `: ${words.length > saidLength ? `${words.slice(0, saidLength)}…` : words}`
}

/** Takes a key out of a text, however it is written there: plainly, in JSON, or in an address. */
function redactor(key: string): (text: string) => string {
  if (key === '') return (text) => text
  const inJson = JSON.stringify(key).slice(1, -1)
  const forms = [key, inJson, inJson.replaceAll('/', '\\/'), encodeURIComponent(key)]
  return (text) => forms.reduce((left, form) => left.replaceAll(form, '***'), text)
}
