/** A service as people name it: an address, and a variable that holds its key. */
import { ConfigError } from '../errors.js'
import { keepSecret } from '../secrets.js'

export const anAddress = 'an address that starts with http:// or https://, without user and password'

/** Whether a text is such an address. Whatever says that it is not must not repeat it: it may hold a password. */
export function isAddress(text: string): boolean {
  const { protocol, username, password } = URL.canParse(text) ? new URL(text) : {}
  return /^https?:$/.test(protocol ?? '') && !username && !password
}

/** The names that keys have in a query. */
const isOfKey = /key|token|sig|secret|password|code/i

/** The address of a path below another one. A query stays, as some servers have their version in it, or their key. */
export function below(address: string, path: string): URL {
  const url = new URL(address)
  // Whoever gave the whole address meant this one.
  const base = url.pathname.replace(/\/+$/, '')
  url.pathname = base.endsWith(`/${path}`) ? base : `${base}/${path}`
  for (const [name, value] of url.searchParams) if (isOfKey.test(name)) keepSecret(value)
  return url
}

/** An address for messages and records: its query may hold a key. */
export function printable(address: string | URL): string {
  const { origin, pathname } = new URL(address)
  return `${origin}${pathname}`.replace(/\/+$/, '')
}

/** Whether a header can carry this. */
export const isKey = (text: string): boolean => /^[\x21-\x7e]*$/.test(text)

/** A variable's name for messages: people give the key itself where its variable is asked for. */
export const nameOf = (variable: string): string => (/^[A-Z][A-Z0-9_]*$/.test(variable) ? variable : 'that was named')

/**
 * The key that a variable of the environment holds; `undefined` when none is named.
 * @throws {ConfigError} when one is named and holds no key that can be sent. The error says nothing of the key.
 */
export function keyFrom(variable: string | null): string | undefined {
  if (variable === null) return undefined
  const name = nameOf(variable)
  const key = process.env[variable]?.trim()
  if (!key) {
    throw new ConfigError(`The variable ${name} holds no key`, {
      hint: 'Give the name of a variable, not the key itself, and put the key into it.',
    })
  }
  if (!isKey(key)) {
    throw new ConfigError(`The key in ${name} holds a line break, a space or another character that cannot be sent`, {
      hint: `Put the key alone into ${name}, in one line.`,
    })
  }
  keepSecret(key)
  return key
}
