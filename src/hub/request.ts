/** One request for something of the hub: redirects followed as far as they are safe, silence ended, the token kept at home. */
import { fetch } from 'undici'
import { HubError } from '../errors.js'
import { connectionError, TransientError } from '../http/failure.js'
import { wayTo } from '../http/proxy.js'
import { isAddress, printable } from '../http/service.js'

export interface HubRequest {
  headers?: Record<string, string>
  /** Sent to the origin of the first address only. */
  token?: string
  signal: AbortSignal
  /** Longest time without an answer, or with less than a KiB of one. */
  silenceMs: number
}

export interface Received {
  status: number
  headers: Pick<Headers, 'get'>
  /** What the server sends. @throws {TransientError} when it breaks off or falls silent. */
  body(): AsyncGenerator<Uint8Array>
  /** For a body that nobody reads. */
  cancel(): Promise<void>
}

/** From hub to store, with a mirror and a renamed repository between them. */
const mostRedirects = 8

/** Less than this in `silenceMs` is silence: a server can keep a connection for ever with a byte a minute. */
export const leastBytes = 1024

/**
 * @param home the origin that may see the token.
 * @throws {TransientError} for what a retry may mend, {HubError} for a place that is none or not to be followed to.
 */
export async function ask(url: string, home: string, what: string, request: HubRequest): Promise<Received> {
  let place = new URL(url)
  for (let redirects = 0; redirects <= mostRedirects; redirects++) {
    const received = await askOnce(place, home, what, request)
    const location = received.headers.get('location')
    if (received.status < 300 || received.status >= 400 || location === null) return received
    await received.cancel()
    place = follow(place, location, what)
  }
  throw new HubError(`${what}: more than ${mostRedirects} redirects`, { hint: 'Check HF_ENDPOINT.' })
}

function follow(from: URL, location: string, what: string): URL {
  const to = URL.canParse(location, from.href) ? new URL(location, from) : undefined
  const isSafe = to && isAddress(to.href) && !(from.protocol === 'https:' && to.protocol === 'http:')
  if (isSafe) return to
  const where = to && isAddress(to.href) ? printable(to) : 'something that is no address'
  throw new HubError(`${what}: ${printable(from)} redirects to ${where}, which is not followed`, {
    hint: 'Check HF_ENDPOINT, and proxies on the way.',
  })
}

async function askOnce(place: URL, home: string, what: string, request: HubRequest): Promise<Received> {
  const { headers, token, signal, silenceMs } = request
  const silence = new AbortController()
  const failed = (error: unknown, words: string): unknown => {
    signal.throwIfAborted()
    if (silence.signal.aborted) return new TransientError(`${what}: ${words} in ${silenceMs / 1000} s`)
    const hint = 'Check the network and HF_ENDPOINT; --offline uses what is already there.'
    return connectionError(error, what, place, HubError, hint)
  }
  const patiently = async <T>(wait: Promise<T>, words: string): Promise<T> => {
    const timer = setTimeout(() => silence.abort(), silenceMs)
    try {
      return await wait
    } catch (error) {
      throw failed(error, words)
    } finally {
      clearTimeout(timer)
    }
  }
  const isHome = place.origin === new URL(home).origin
  const response = await patiently(
    fetch(place, {
      headers: { ...headers, ...(isHome && token && { authorization: `Bearer ${token}` }) },
      redirect: 'manual',
      dispatcher: wayTo(place),
      signal: AbortSignal.any([signal, silence.signal]),
    }),
    'no answer',
  )
  return {
    status: response.status,
    headers: response.headers,
    cancel: async () => response.body?.cancel(),
    async *body() {
      const chunks = response.body?.[Symbol.asyncIterator]()
      if (!chunks) return
      // Only what the server takes counts, not what our disk does.
      let waited = 0
      let bytes = 0
      try {
        for (;;) {
          const began = performance.now()
          const { value, done } = await patiently(chunks.next(), 'nothing more')
          if (done) return
          waited += performance.now() - began
          bytes += value.length
          yield value
          if (waited < silenceMs) continue
          if (bytes < leastBytes) throw new TransientError(`${what}: only ${bytes} bytes in ${silenceMs / 1000} s`)
          waited = bytes = 0
        }
      } finally {
        await chunks.return?.()
      }
    },
  }
}
