/** What the making of pairs can be told. */
import { z } from 'zod'
import { endpointSettings } from '../endpoint/settings.js'
import { compute, inputPath, outputPath, seed, text } from '../settings/common.js'
import { pairModes } from './mode.js'

export const pairsSettings = z.strictObject({
  samples: text.meta(inputPath('JSON Lines of questions with references')),
  responses: text.meta(inputPath("JSON Lines of a model's answers")),
  out: text.meta(outputPath('JSON Lines of pairs; rejections and the report are written beside it')),
  mode: z.enum(pairModes).default('on-policy').meta({
    description:
      'What a pair is: the answer and its edit, the words that differ alone, the reference and the wrong side, or the reference and its edit (docs/pairs.md)',
  }),
  provider: z.enum(['rules', 'phantom']).default('rules').meta({
    description: 'Who judges and edits offline: word rules, or the exact truth of `import phantom`',
    rulesOut: 'endpoint',
  }),
  endpoint: endpointSettings.optional().describe('A language model that judges and edits instead'),
  judge: endpointSettings.optional().describe('A language model that checks every pair blindly'),
  wrongSentences: z
    .enum(['out', 'keep'])
    .default('out')
    .describe('Reports with a sentence that may be wrong and would stand on both sides: leave out, or keep and say so'),
  cache: text.optional().meta({
    ...outputPath('Folder where replies of servers are kept; default: <out>.cache'),
    needs: ['endpoint', 'judge'],
  }),
  policy: text.optional().meta(inputPath('Model folder; pairs.report.json then has its perplexity on both sides')),
  logprobFloor: z.number().optional().meta({
    description: 'Lowest log-probability of the edited text less the original, under the policy; lower: no pair',
    unit: 'nats',
    needs: 'policy',
  }),
  policyAdapter: text.optional().meta({ ...inputPath('Its PEFT adapter folder'), needs: 'policy' }),
  device: compute.device.meta({ ...compute.device.meta(), needs: 'policy' }),
  seed: seed.meta({ description: 'Seed of the choice between edits that are equally good' }),
})

export type PairsSettings = z.output<typeof pairsSettings>
