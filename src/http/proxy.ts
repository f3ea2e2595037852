/** The way to a server: straight, or through the proxy that the environment names, as curl reads it. */
import { BlockList, isIP, isIPv4 } from 'node:net'
// Node's fetch before version 24 knows no proxies. This is the library it is made of, which does.
import { Agent, type Dispatcher, ProxyAgent } from 'undici'
import { ConfigError } from '../errors.js'
import { keepSecret } from '../secrets.js'

const ways = new Map<string, Dispatcher>()

/** Silence is for the callers to end: they know what they wait for. */
const options = { headersTimeout: 0, bodyTimeout: 0, connect: { timeout: 10_000 } }

/** What carries a request to this address. @throws {ConfigError} when the environment names a proxy that is none. */
export function wayTo(address: URL): Dispatcher {
  const proxy = proxyFor(address) ?? ''
  const known = ways.get(proxy)
  if (known) return known
  const way = proxy === '' ? new Agent(options) : throughProxy(proxy)
  ways.set(proxy, way)
  return way
}

/** The proxy of the environment for an address; `undefined` where there is none, or `NO_PROXY` has the host. */
export function proxyFor({ protocol, hostname, port }: URL): string | undefined {
  const host = hostname.replace(/^\[|\]$/g, '')
  const exceptions = (fromEnvironment('no_proxy') ?? '').toLowerCase().split(/[\s,]+/)
  if (exceptions.some((entry) => entry !== '' && covers(entry, host, port || defaultPorts[protocol]))) return undefined
  const proxy = fromEnvironment(`${protocol}_proxy`.replace(':', '')) || fromEnvironment('all_proxy')
  return proxy && !proxy.includes('://') ? `http://${proxy}` : proxy
}

const defaultPorts: Record<string, string> = { 'http:': '80', 'https:': '443' }

const fromEnvironment = (name: string): string | undefined =>
  process.env[name]?.trim() || process.env[name.toUpperCase()]?.trim() || undefined

/** Whether an entry of `NO_PROXY` has a host: `*`, a domain with all below it, an address, a block of addresses. */
function covers(entry: string, host: string, port: string): boolean {
  if (entry === '*') return true
  const [, network, bits] = /^([\d.]+|[\da-f:]+)\/(\d{1,3})$/.exec(entry) ?? []
  if (network) {
    if (isIP(network) === 0 || isIP(network) !== isIP(host)) return false
    const family = isIPv4(network) ? 'ipv4' : 'ipv6'
    const block = new BlockList()
    block.addSubnet(network, Math.min(Number(bits), family === 'ipv4' ? 32 : 128), family)
    return block.check(host, family)
  }
  const [, name, only] = /^\[?(.+?)\]?(?::(\d+))?$/.exec(isIP(entry) ? `[${entry}]` : entry) ?? ['', entry]
  const domain = name.replace(/^\*?\./, '')
  return (only === undefined || only === port) && (host === domain || host.endsWith(`.${domain}`))
}

function throughProxy(proxy: string): Dispatcher {
  try {
    const { protocol, username, password } = new URL(proxy)
    const secret = decodeURIComponent(password)
    for (const each of [`${decodeURIComponent(username)}:${secret}`, secret, password]) keepSecret(each)
    if (/^https?:$/.test(protocol)) return new ProxyAgent({ ...options, uri: proxy, proxyTunnel: false })
  } catch {
    // Whatever it says of an address, it may repeat the password in it.
  }
  throw new ConfigError('The proxy of the environment is no address that starts with http:// or https://', {
    hint: 'Look at HTTP_PROXY, HTTPS_PROXY and ALL_PROXY; a % in a password is written %25. NO_PROXY lists hosts that need none.',
  })
}
