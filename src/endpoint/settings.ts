/** A language-model server and how it is asked, as settings. */
import { z } from 'zod'
import { anAddress, isAddress } from '../http/service.js'
import { count, text, whole } from '../settings/common.js'
import { checkTree, refuseUseless } from '../settings/file.js'

const price = z.number().nonnegative()

/** Schema of the settings of a server, with ranges and defaults. */
export const endpointSettings = z.strictObject({
  url: z.string().refine(isAddress, anAddress).meta({
    description: 'Address of an OpenAI-compatible server, with its version: http://HOST:PORT/v1',
    secret: true,
  }),
  model: text.meta({ description: "The model's name at the server" }),
  keyEnv: text
    .nullable()
    .default(null)
    .meta({ description: 'Environment variable that holds the key', free: true, secret: true }),
  keyHeader: z
    .string()
    .regex(/^[A-Za-z0-9-]+$/, 'the name of a header')
    .nullable()
    .default(null)
    .meta({
      description: 'Header that carries the key; default: Authorization, for Azure api-key too',
      free: true,
      needs: 'keyEnv',
    }),
  concurrency: count.max(1000).default(4).meta({ description: 'Requests at a time', unit: 'requests', free: true }),
  requestsPerMinute: z.number().nonnegative().default(0).meta({
    description: 'Most requests in a minute, retries included; 0 = no limit',
    unit: 'requests a minute',
    free: true,
  }),
  // Node's fetch gives up by itself after 300 s.
  timeout: z
    .number()
    .positive()
    .max(300)
    .default(120)
    .meta({ description: 'Longest time of one attempt', unit: 'seconds', free: true }),
  retries: whole
    .max(100)
    .default(6)
    .meta({ description: 'Further attempts after a temporary failure', unit: 'attempts', free: true }),
  retryDelay: z
    .number()
    .nonnegative()
    .max(60)
    .default(1)
    .meta({ description: 'Wait before the first retry; doubles each time', unit: 'seconds', free: true }),
  maxTokens: count.default(1024).meta({ description: 'Longest reply', unit: 'tokens' }),
  budget: price
    .positive()
    .nullable()
    .default(null)
    .meta({
      description: 'Most that one run may cost',
      unit: 'US dollars',
      free: true,
      needs: ['priceIn', 'priceOut'],
    }),
  priceIn: price
    .default(0)
    .meta({ description: 'Price of the tokens of requests', unit: 'US dollars per million tokens', free: true }),
  priceOut: price
    .default(0)
    .meta({ description: 'Price of the tokens of replies', unit: 'US dollars per million tokens', free: true }),
})

/** Settings with their defaults. */
export type EndpointSettings = z.output<typeof endpointSettings>
/** Settings as given: `url` and `model` are needed, the rest has defaults. */
export type EndpointInput = z.input<typeof endpointSettings>

/**
 * Settings with their defaults.
 * @throws {ConfigError} when one is wrong, or a budget has no prices to count with.
 */
export function parseEndpoint(given: EndpointInput): EndpointSettings {
  const data = checkTree(endpointSettings, given, () => 'endpoint')
  refuseUseless(endpointSettings, given, data, () => 'endpoint')
  return data
}
