/** A server that speaks OpenAI's protocol, as settings. */
import { z } from 'zod'
import { count, text, whole } from '../settings/common.js'

const price = z.number().nonnegative()

export const endpointSettings = z.strictObject({
  url: text.meta({ description: 'Address of an OpenAI-compatible server up to its version: https://HOST/v1' }),
  model: text.meta({ description: "The model's name at the server" }),
  keyEnv: text.nullable().default(null).meta({ description: 'Environment variable that holds the key', free: true }),
  concurrency: count.default(4).meta({ description: 'Requests at a time', free: true }),
  requestsPerMinute: whole.default(0).meta({ description: 'Most requests a minute; 0 = no limit', free: true }),
  timeout: z.number().positive().max(86_400).default(120).meta({ description: 'Seconds for one attempt', free: true }),
  retries: whole.default(6).meta({ description: 'Further attempts after a failure that may pass', free: true }),
  retryDelay: z
    .number()
    .nonnegative()
    .default(1)
    .meta({ description: 'Seconds before the first retry; doubles', free: true }),
  maxTokens: count.default(1024).meta({ description: 'Longest reply' }),
  budget: price.nullable().default(null).meta({ description: 'US dollars that are never exceeded', free: true }),
  priceIn: price.default(0).meta({ description: 'US dollars per million prompt tokens', free: true }),
  priceOut: price.default(0).meta({ description: 'US dollars per million completion tokens', free: true }),
})

export type EndpointSettings = z.output<typeof endpointSettings>
