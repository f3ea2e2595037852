/** What a run of sampling can be told. */
import { z } from 'zod'
import { endpointSettings } from '../endpoint/settings.js'
import { adapter, decoding, model, sampling, sharedByModel } from '../generate/settings.js'
import { count, inputPath, outputPath, rootPath, seed, text } from '../settings/common.js'

/** Which questions are asked, in what words: shared with `evaluate`. */
export const asking = {
  samples: text.meta(inputPath('Sample records, JSON Lines')),
  images: text.optional().meta(rootPath('Folder that image paths are relative to; default: that of the samples')),
  promptSuffix: z.string().default('').meta({ description: 'Text to add after every question' }),
  split: text.nullable().default(null).meta({ description: 'Only the samples of this split' }),
  limit: count.nullable().default(null).meta({ description: 'Only the first samples, this many', unit: 'samples' }),
}

/** A server to ask instead of the engine. Its longest reply is `maxNewTokens`. */
export const serverSettings = endpointSettings.omit({ maxTokens: true })

/** Schema of the `sample` stage; `SampleSettings` is what decides an answer. */
export const sampleSettings = z.strictObject({
  ...asking,
  out: text.meta(outputPath('Response records, JSON Lines')),
  model: model.optional().meta({ ...inputPath('Model folder; not needed with an endpoint'), rulesOut: 'endpoint' }),
  adapter,
  endpoint: serverSettings.optional().describe('A server to ask instead of the engine'),
  cache: text
    .optional()
    .meta({ ...outputPath('Folder where replies of a server are kept; default: <out>.cache'), needs: 'endpoint' }),
  answers: count.default(1).meta({ description: 'Answers to each question', unit: 'answers' }),
  ...decoding,
  ...sharedByModel,
  ...sampling,
  seed: seed.meta({ description: "Seed of the answers; that of one follows from it and the sample's id" }),
  strict: z.boolean().default(false).meta({ description: 'Stop at the first question without an answer' }),
})

type Settings = z.output<typeof sampleSettings>

/** What of it decides the answer to a question. */
export type AnswerSettings = Pick<Settings, 'maxNewTokens' | 'temperature' | 'topP' | 'topK' | 'stop' | 'seed'>

/** And which questions there are. */
export type SampleSettings = AnswerSettings & Pick<Settings, 'answers' | 'promptSuffix' | 'split' | 'limit'>
