/** What breaks between us and a server, in words: what happened, and what to do about it. */
import type { FireError, FireErrorOptions } from '../errors.js'
import { redact } from '../secrets.js'
import { proxyFor } from './proxy.js'

/** Something that may go well the next time. */
export class TransientError extends Error {
  readonly detail: Record<string, unknown>
  readonly retryAfterMs: number
  readonly hint: string | undefined

  constructor(
    message: string,
    detail: Record<string, unknown> = {},
    { retryAfterMs = 0, hint, cause }: { retryAfterMs?: number; hint?: string; cause?: unknown } = {},
  ) {
    super(message, { cause })
    this.detail = detail
    this.retryAfterMs = retryAfterMs
    this.hint = hint
  }
}

/** Codes of failures that pass: a server restarting, a cable, a name server that is busy. */
const passing = /^(ECONN\w+|EPIPE|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|EAI_AGAIN|UND_ERR_\w+)$/

const address = 'Check the address.'
const certificate =
  'If it is a certificate of your own, name its file in NODE_EXTRA_CA_CERTS. Otherwise somebody may be listening.'

/** By code, or by the beginning of one. */
const known: [code: RegExp, says: string, hint?: string][] = [
  [/^ECONNREFUSED$/, 'nothing listens there', 'Start the server, or correct host and port of its address.'],
  [/^ENOTFOUND$/, 'there is no such host', 'Check the spelling of the address, and the network.'],
  [/^EAI_AGAIN$/, 'the name of the host cannot be looked up now', 'Check the network.'],
  [/^(EHOSTUNREACH|ENETUNREACH)$/, 'there is no way to this host', 'Check the network and the address.'],
  [/^(ETIMEDOUT|UND_ERR_CONNECT_TIMEOUT)$/, 'no connection in time', 'Check the address, the network and firewalls.'],
  [/^(ECONNRESET|EPIPE|UND_ERR_SOCKET|ECONNABORTED)$/, 'the connection was closed before the answer was complete'],
  [/^UND_ERR_(RES|REQ)_CONTENT_LENGTH_MISMATCH$/, 'the answer is longer or shorter than announced'],
  [/^(UND_ERR_HEADERS_OVERFLOW|HPE_HEADER_OVERFLOW)$/, 'the headers of the answer are too long'],
  [/^(CERT_HAS_EXPIRED|CERT_NOT_YET_VALID)$/, 'its certificate is not valid today', 'Check the clock of this machine.'],
  [/^ERR_TLS_CERT_ALTNAME_INVALID$/, 'its certificate is for another host', address],
  [/CERT|SELF_SIGNED|UNABLE_TO/, 'its certificate is signed by nobody this machine trusts', certificate],
  [/^(ERR_SSL_|EPROTO)/, 'it does not speak TLS as it should', 'Does its address start with http:// and not https://?'],
  [/^bad port$/, 'no request goes to this port', address],
  [/^HPE_/, 'it does not speak HTTP', 'Is this the right port? Does its address start with https://?'],
]

/**
 * What an exception of `fetch`, or of reading its body, means: a `TransientError` where the connection may hold the next
 * time, a `Failure` where it will not. Every other exception passes through.
 */
export function connectionError(
  error: unknown,
  what: string,
  to: URL,
  Failure: new (message: string, options: FireErrorOptions) => FireError,
  hint = 'Check the address and the network.',
): unknown {
  if (!(error instanceof TypeError)) return error
  const { code, message } = reasonOf(error)
  const [, answered] = /proxy\D*\((\d+)\)/i.exec(message) ?? []
  const [, says, own] = known.find(([pattern]) => pattern.test(code || message)) ?? []
  const through = viaProxy(to)
  const words = answered
    ? `the proxy answered ${answered}`
    : says
      ? `${says}${code && ` (${code})`}`
      : redact(message || code)
  const text = `${what}: ${words}${through}`
  const advice =
    through === ''
      ? (own ?? hint)
      : 'Check the proxy in HTTP_PROXY or HTTPS_PROXY; NO_PROXY lists hosts that need none.'
  const detail = { systemCode: code || undefined }
  if (passing.test(code) && (!answered || Number(answered) >= 500))
    return new TransientError(text, detail, { hint: own && advice, cause: error })
  return new Failure(text, { detail, hint: advice, cause: error })
}

/** The innermost exception says most. */
function reasonOf(error: unknown): { code: string; message: string } {
  const { code, message = '', cause } = error as { code?: unknown; message?: string; cause?: unknown }
  if (cause instanceof Error) return reasonOf(cause)
  return { code: typeof code === 'string' ? code : '', message }
}

/** ` through the proxy host:port` where the environment names one for this address. */
function viaProxy(to: URL): string {
  const proxy = proxyFor(to)
  return proxy === undefined || !URL.canParse(proxy) ? '' : `, through the proxy ${new URL(proxy).host}`
}
