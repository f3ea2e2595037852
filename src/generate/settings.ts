/** How answers are generated, as settings: of `generate`, `sample` and `evaluate` alike. */
import { z } from 'zod'
import { beyondContext, compute, count, inputPath, seed, text, whole } from '../settings/common.js'

export const model = text.meta(inputPath('Model folder'))
export const adapter = text.optional().meta(inputPath('PEFT adapter folder'))

/** How long answers are, and how many are decoded together. */
export const decoding = {
  maxNewTokens: count.default(256).meta({ description: 'Longest answer, in tokens' }),
  stop: z
    .array(text)
    .default([])
    .meta({ description: "Text that ends an answer, for instance $'\\n\\n' (repeatable)" }),
  beyondContext,
  batchSize: count.default(8).meta({ description: 'Questions decoded together', free: true }),
  ...compute,
}

/** How a token is drawn. */
export const sampling = {
  temperature: z.number().nonnegative().default(0).meta({ description: 'Sampling temperature; 0 = greedy' }),
  topP: z
    .number()
    .gt(0)
    .max(1)
    .default(1)
    .meta({ description: 'Draw from the most likely tokens with this total probability; 1 = off' }),
  topK: whole.default(0).meta({ description: 'Draw from this many most likely tokens; 0 = off' }),
}

export const generateSettings = z.strictObject({
  model,
  adapter,
  ...decoding,
  ...sampling,
  seed: seed.meta({ description: 'Seed of the answers; question k has seed + k' }),
})
