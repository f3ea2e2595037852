/** A service as people name it: an address, and a variable that holds its key. */
import { ConfigError } from '../errors.js'

export const anAddress = 'an address that starts with http:// or https://, without user and password'

/** Whether a text is such an address. Whatever says that it is not must not repeat it: it may hold a password. */
export function isAddress(text: string): boolean {
  const { protocol, username, password } = URL.canParse(text) ? new URL(text) : {}
  return /^https?:$/.test(protocol ?? '') && !username && !password
}

/** The address of a path below another one. A query stays: some servers have their version in it. */
export function below(address: string, path: string): URL {
  const url = new URL(address)
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/${path}`
  return url
}

/** An address for messages and records: its query may hold a key. */
export function printable(address: string | URL): string {
  const { origin, pathname } = new URL(address)
  return `${origin}${pathname}`.replace(/\/+$/, '')
}

/**
 * The key that a variable of the environment holds; `undefined` when none is named.
 * @throws {ConfigError} when one is named and holds no key.
 */
export function keyFrom(variable: string | null): string | undefined {
  if (variable === null) return undefined
  const key = process.env[variable]?.trim()
  if (key) return key
  throw new ConfigError(`The variable ${variable} holds no key`, { hint: `Set ${variable}, or name no variable.` })
}
