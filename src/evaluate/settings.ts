/** What an evaluation can be told. */
import { z } from 'zod'
import { PUBLISHED_NOISE } from '../corrupt/noise.js'
import { adapter, decoding, model } from '../generate/settings.js'
import { asking } from '../sample/settings.js'
import { inputPath, outputPath, rootPath, seed, text, whole } from '../settings/common.js'

export const evaluateSettings = z.strictObject({
  ...asking,
  out: text.meta(outputPath('Folder for answers, verdicts and results.json')),
  model,
  adapter: adapter.unwrap().meta(inputPath('PEFT adapter folder to compare with the model alone')),
  trainedOn: text
    .optional()
    .meta(inputPath('Pairs that the adapter was trained on, to count the questions about their images')),
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
  hideLesions: z
    .array(z.enum(['lesion-noise', 'lesion-blackout']))
    .default([])
    .meta({ description: 'Ask the questions whose lesion has a mask again, with noise or black on it (repeatable)' }),
  hiddenSigma: z
    .number()
    .positive()
    .default(PUBLISHED_NOISE.sigma)
    .meta({ description: 'Noise that hides a lesion, in grey levels of 0 to 255' }),
  masks: text.optional().meta(inputPath('Manifest or folder of masks, as for `corrupt`')),
  maskRoot: text.optional().meta(rootPath('Folder that masks must lie in; default: that of the manifest')),
  seed: seed.meta({
    description: 'Seed of the choice of questions for attention and of the noise; the answers are greedy',
  }),
})
