/**
 * The keys, tokens and passwords of this process, and the one place that takes them out of texts. What a server says, and
 * what an error says, passes through here before it is kept or shown.
 */

const patterns = new Map<string, RegExp>()

const replacement = '***'

/** Keys are longer. "EMPTY" or "none" stands for none, and hashes, paths and answers may contain so short a text. */
const isPlaceholder = (secret: string): boolean => secret.length < 8

/** From now on no text that passes through `redact` contains this, in whatever form. */
export function keepSecret(secret: string | undefined): void {
  if (secret && !isPlaceholder(secret) && !patterns.has(secret)) patterns.set(secret, formsOf(secret))
}

/** A text without the secrets of this process. */
export function redact(text: string): string {
  let left = text
  for (const pattern of patterns.values()) left = left.replace(pattern, replacement)
  return left
}

/** A text of ours or of a server without users and passwords in addresses, also in those that nobody has used. */
export const withoutPasswords = (text: string): string => text.replace(/(\w:\/\/)[^\s/?#@"'<>]+@/g, `$1${replacement}@`)

/** A value as JSON, without the secrets of this process. */
export function toJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, patterns.size > 0 ? redacting : undefined, indent)
}

/** The value of a JSON text, without the secrets of this process. @throws {SyntaxError} */
export function fromJson(text: string): unknown {
  return JSON.parse(text, patterns.size > 0 ? redacting : undefined)
}

const redacting = (_: string, value: unknown): unknown => (typeof value === 'string' ? redact(value) : value)

/** Runs of a long secret that are this long are taken out of refusals too: servers repeat half a key. */
const shortestPart = 8

/** What a server says of its own accord, without a key, not even a placeholder or half of a long one. */
export function redactSaid(text: string, key: string): string {
  const known = withoutPasswords(redact(text))
  const left = key === '' ? known : known.replace(formsOf(key), replacement)
  return key.length < 2 * shortestPart ? left : withoutParts(left, key)
}

function withoutParts(text: string, key: string): string {
  const [said, secret] = [text.toLowerCase(), key.toLowerCase()]
  const parts = new Set<string>()
  for (let at = 0; at + shortestPart <= secret.length; at++) parts.add(secret.slice(at, at + shortestPart))
  let out = ''
  for (let at = 0; at < text.length; ) {
    let end = at
    for (let from = at; parts.has(said.slice(from, from + shortestPart)); from++) end = from + shortestPart
    out += end > at ? replacement : text[at]
    at = Math.max(end, at + 1)
  }
  return out
}

/** What may stand between two characters of a secret without hiding it: colours of a terminal, characters of no width. */
const between = '(?:\\u001b\\[[0-9;]*m|[\\p{Cc}\\p{Cf}])*'

/** A secret as it is, or in JSON, in an address, in HTML, in base64 (also inside of a longer text), in hexadecimal. */
function formsOf(secret: string): RegExp {
  const plain = [...secret].map(formsOfCharacter).join(between)
  const bytes = Buffer.from(secret)
  const base64 = [0, 1, 2].map((offset) => insideBase64(bytes, offset)).filter((form) => form.length >= 6)
  const escaped = base64.map((form) => form.replaceAll('+', '[-+]').replaceAll('/', '[/_]'))
  return new RegExp([plain, ...escaped, bytes.toString('hex')].join('|'), 'giu')
}

/** Backslashes before a character: JSON inside of JSON, four times. Without an end a run of them takes the square of its length. */
const mostEscapes = 15

function formsOfCharacter(character: string): string {
  const code = character.codePointAt(0) as number
  const hex = code.toString(16)
  const address = encodeURIComponent(character)
    .replace(/^[^%]$/, `%${hex.padStart(2, '0')}`)
    .replaceAll('%', '%(?:25)?')
  const json = code < 0x10000 ? `\\\\{1,${mostEscapes}}u${hex.padStart(4, '0')}` : '(?!)'
  const html = { '"': 'quot', '&': 'amp', '<': 'lt', '>': 'gt', "'": 'apos' }[character]
  const entities = [`&#0*${code};`, `&#x0*${hex};`, ...(html ? [`&${html};`] : [])]
  return `(?:\\\\{0,${mostEscapes}}${quoted(character)}|${[json, address, ...entities].join('|')})`
}

const quoted = (character: string): string => character.replace(/[\\^$.*+?()[\]{}|/]/, '\\$&')

/** The characters of a base64 text that these bytes alone decide when `offset` bytes stand before them. */
function insideBase64(bytes: Buffer, offset: number): string {
  const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64')
  return text.slice(Math.ceil((offset * 8) / 6), Math.floor(((offset + bytes.length) * 8) / 6))
}
