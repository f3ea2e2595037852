/** What an evaluation can be told. */
import { z } from 'zod'
import { adapter, decoding, model } from '../generate/settings.js'
import { asking } from '../sample/settings.js'
import { input, seed, text, whole } from '../settings/common.js'

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
  judge: z
    .enum(['rules', 'phantom'])
    .default('rules')
    .meta({ description: 'Who judges: rules, by the reference answer, or the exact truth of `import phantom`' }),
  openMatch: z
    .enum(['exact', 'phrase'])
    .default('exact')
    .meta({ description: 'rules: open answers are right when they equal the reference, or when they contain it' }),
  ...decoding,
  attentionQuestions: whole.default(0).meta({
    description:
      'Questions whose attention is measured before and after: answered rightly, with a mask of their lesion; 0 = none',
  }),
  masks: input.optional().meta({
    description: 'Manifest or folder of masks, as `corrupt` takes it; masks beside the images are found by themselves',
    path: 'input',
  }),
  maskRoot: text
    .optional()
    .meta({ description: 'Folder that masks must lie in; default: that of the manifest', path: 'root' }),
  seed: seed.meta({ description: 'Chooses the questions for attention; the answers are greedy' }),
})
