/** What an evaluation can be told. */
import { z } from 'zod'
import { adapter, decoding, model } from '../generate/settings.js'
import { asking } from '../sample/settings.js'
import { input, seed, text } from '../settings/common.js'

export const evaluateSettings = z.strictObject({
  ...asking,
  out: text.meta({ description: 'Folder for answers, verdicts and results.json', path: 'output' }),
  model,
  adapter: adapter
    .unwrap()
    .meta({ description: 'PEFT adapter folder that is held against the model alone', path: 'input' }),
  trainedOn: input.optional().meta({
    description: 'Pairs that the adapter was trained on: questions about their images are counted',
    path: 'input',
  }),
  openMatch: z
    .enum(['exact', 'phrase'])
    .default('exact')
    .meta({ description: 'Open answers are right when they equal the reference, or when they contain it' }),
  ...decoding,
  seed: seed.meta({ description: 'Recorded with the answers, which are greedy' }),
})

export type EvaluateSettings = z.output<typeof evaluateSettings>
