/** Which hub to ask and as whom, read from the environment as Hugging Face's own tools read it. */
import { homedir } from 'node:os'
import { join } from 'node:path'
import { HUB_URL } from '@huggingface/hub'
import { readTextIfThere } from '../data/files.js'
import { ArgumentError } from '../errors.js'
import { anAddress, isAddress, isKey, nameOf } from '../http/service.js'
import { keepSecret } from '../secrets.js'

/** Which hub is asked, and with which token. */
export interface HubAccess {
  /** Address of the hub without a slash at the end. */
  endpoint: string
  /** Sent to the endpoint only, never to the stores it redirects to. */
  token: { value: string; source: string } | undefined
  /** Ask nobody: `HF_HUB_OFFLINE`. */
  offline: boolean
  /** Longest silence of a server: `HF_HUB_DOWNLOAD_TIMEOUT`, there in seconds. Default: a minute. */
  silenceMs?: number
}

type Environment = Record<string, string | undefined>

/**
 * Address and token as the environment has them, under the names that Hugging Face's own tools use.
 * @param tokenVariable the variable that holds the token; default: `HF_TOKEN`, else the file that `hf auth login` wrote.
 * @throws {ArgumentError} when a variable that was named is empty, or `HF_ENDPOINT` is not an address.
 */
export async function hubAccess(tokenVariable?: string, env: Environment = process.env): Promise<HubAccess> {
  return {
    endpoint: parseEndpoint(env.HF_ENDPOINT || HUB_URL),
    token: tokenVariable === undefined ? await usualToken(env) : namedToken(tokenVariable, env),
    silenceMs: 1000 * Number(env.HF_HUB_DOWNLOAD_TIMEOUT) || undefined,
    offline: ['1', 'ON', 'YES', 'TRUE'].includes((env.HF_HUB_OFFLINE ?? '').toUpperCase()),
  }
}

function parseEndpoint(text: string): string {
  if (!isAddress(text)) throw new ArgumentError(`HF_ENDPOINT: expected ${anAddress}`)
  return text.replace(/\/+$/, '')
}

function namedToken(name: string, env: Environment): HubAccess['token'] {
  const value = env[name]?.trim()
  if (value) return checked(value, name)
  throw new ArgumentError(`The variable ${nameOf(name)} holds no token`, {
    hint: 'Give the name of a variable, not the token itself, or leave --key-env out.',
  })
}

function cacheOf(env: Environment): string | undefined {
  if (env.XDG_CACHE_HOME) return env.XDG_CACHE_HOME
  try {
    return join(homedir(), '.cache')
  } catch {
    // A user whom the system does not know, as in many containers, and HOME unset.
    return undefined
  }
}

async function usualToken(env: Environment): Promise<HubAccess['token']> {
  const value = env.HF_TOKEN?.trim()
  if (value) return checked(value, 'HF_TOKEN')
  const cache = cacheOf(env)
  const home = env.HF_HOME || (cache && join(cache, 'huggingface'))
  const path = env.HF_TOKEN_PATH || (home && join(home, 'token'))
  if (!path) return undefined
  const text = (await readTextIfThere(path, 'Reading the token'))?.trim()
  return text ? checked(text, path) : undefined
}

function checked(value: string, source: string): HubAccess['token'] {
  if (!isKey(value)) {
    throw new ArgumentError(`The token in ${source} holds a line break or another character that cannot be sent`)
  }
  keepSecret(value)
  return { value, source }
}
