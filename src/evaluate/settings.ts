/** What an evaluation can be told. */
import { z } from 'zod'
import { adapter, decoding, model } from '../generate/settings.js'
import { asking } from '../sample/settings.js'
import { input, seed, text, whole } from '../settings/common.js'

export const evaluateSettings = z.strictObject({
  ...asking,
  out: text.meta({ description: 'Folder for answers, verdicts and results.json', path: 'output' }),
  model,
  adapter: adapter.unwrap().meta({ description: 'PEFT adapter folder to compare with the model alone', path: 'input' }),
  trainedOn: input.optional().meta({
    description: 'Pairs that the adapter was trained on, to count the questions about their images',
    path: 'input',
  }),
  judge: z
    .enum(['rules', 'phantom'])
    .default('rules')
    .meta({ description: 'rules: by the reference answer; phantom: by the exact truth of `import phantom`' }),
  openMatch: z
    .enum(['exact', 'phrase'])
    .default('exact')
    .meta({ description: 'rules: an open answer is correct when it equals the reference, or when it contains it' }),
  ...decoding,
  attentionQuestions: whole.default(0).meta({
    description:
      'Measure attention on this many questions that are answered correctly and whose lesion has a mask; 0 = off',
  }),
  masks: input.optional().meta({
    description: 'Manifest or folder of masks, as for `corrupt`',
    path: 'input',
  }),
  maskRoot: text
    .optional()
    .meta({ description: 'Folder that masks must lie in; default: that of the manifest', path: 'root' }),
  seed: seed.meta({ description: 'Seed of the choice of questions for attention; the answers are greedy' }),
})
