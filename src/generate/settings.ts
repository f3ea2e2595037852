/** How answers are generated, as settings: of `generate`, `sample` and `evaluate` alike. */
import { z } from 'zod'
import { beyondContext, compute, count, inputPath, seed, shared, text, whole } from '../settings/common.js'

export const model = text.meta(inputPath('Model folder'))
export const adapter = text.optional().meta(inputPath('PEFT adapter folder'))

/** What a server, or a file of answers, does not need. */
const ofModel = <S extends z.ZodType>(setting: S): S => setting.meta({ ...setting.meta(), needs: 'model' })

/** How long answers are, and how many are decoded together. */
export const decoding = {
  maxNewTokens: count.default(256).meta({ description: 'Longest answer', unit: 'tokens' }),
  stop: z
    .array(text)
    .default([])
    .meta({ description: "Text that ends an answer, for instance $'\\n\\n' (repeatable)" }),
  beyondContext: ofModel(beyondContext),
  batchSize: ofModel(
    count.default(8).meta({ description: 'Questions decoded together', unit: 'questions', free: true }),
  ),
  device: ofModel(compute.device),
  dtype: ofModel(compute.dtype),
  threads: ofModel(compute.threads),
  packWeights: ofModel(compute.packWeights),
}

/** As engines share it, where a server may answer instead. */
export const sharedByModel = { ...shared, featureStore: ofModel(shared.featureStore) }

/** How a token is drawn. */
export const sampling = {
  temperature: z.number().min(0).max(100).default(0).meta({ description: 'Sampling temperature; 0 = greedy' }),
  topP: z
    .number()
    .gt(0)
    .max(1)
    .default(1)
    .meta({ description: 'Draw from the most likely tokens with this total probability; 1 = off' }),
  topK: whole.default(0).meta({ description: 'Draw from this many most likely tokens; 0 = off', unit: 'tokens' }),
}

export const generateSettings = z.strictObject({
  model,
  adapter,
  ...decoding,
  ...sampling,
  seed: seed.meta({ description: 'Seed of the answers; question k has seed + k' }),
})
