/** A language-model server and how it is asked: the same on the command line and in a pipeline's file. */
import { z } from 'zod'
import { ConfigError } from '../errors.js'
import { anAddress, isAddress } from '../http/service.js'

const positive = z.number().int().positive()
const notNegative = z.number().nonnegative()

export const endpointSettings = z.strictObject({
  url: z
    .string()
    .refine(isAddress, anAddress)
    .describe('Address of an OpenAI-compatible server up to its version, for instance http://localhost:8000/v1'),
  model: z.string().min(1).describe("The model's name at the server"),
  keyEnv: z.string().min(1).nullable().default(null).describe('Environment variable with the key; null = no key'),
  concurrency: positive.max(1000).default(4).describe('Requests under way at once'),
  requestsPerMinute: notNegative.default(0).describe('Requests a minute, repeated ones too; 0 = no limit'),
  // Node's fetch gives up by itself after 300 s.
  timeout: z.number().positive().max(300).default(60).describe('Seconds that one attempt may take'),
  retries: notNegative.int().max(100).default(6).describe('Further attempts after a failure that may pass'),
  retryDelay: notNegative.max(60).default(1).describe('Seconds before the first further attempt; doubles each time'),
  maxTokens: positive.default(1024).describe('Longest reply in tokens'),
  budget: notNegative.nullable().default(null).describe('US dollars that are never exceeded; null = no limit'),
  priceIn: notNegative.default(0).describe('US dollars per million tokens of a request; a budget needs it'),
  priceOut: notNegative.default(0).describe('US dollars per million tokens of a reply; a budget needs it'),
})

export type EndpointSettings = z.output<typeof endpointSettings>
export type EndpointInput = z.input<typeof endpointSettings>

/**
 * Settings with their defaults.
 * @throws {ConfigError} when one is wrong, or a budget has no prices to count with.
 */
export function parseEndpoint(given: EndpointInput): EndpointSettings {
  const { data, error } = endpointSettings.safeParse(given)
  if (!data) {
    throw new ConfigError(error.issues.map(({ path, message }) => `endpoint ${path.join('.')}: ${message}`).join('\n'))
  }
  if (data.budget === null || data.priceIn + data.priceOut > 0) return data
  const hint = 'Give priceIn and priceOut, in US dollars per million tokens.'
  throw new ConfigError('A budget needs prices', { hint })
}
