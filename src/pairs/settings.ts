/** What the making of pairs can be told. */
import { z } from 'zod'
import { endpointSettings } from '../endpoint/settings.js'
import { compute, input, seed, text } from '../settings/common.js'
import { pairModes } from './construct.js'

export const pairsSettings = z.strictObject({
  samples: input.meta({ description: 'JSON Lines of questions with references', path: 'input' }),
  responses: input.meta({ description: "JSON Lines of a model's answers", path: 'input' }),
  out: text.meta({
    description: 'JSON Lines of pairs; rejected.jsonl and pairs.report.json are written beside it',
    path: 'output',
  }),
  mode: z
    .enum(pairModes)
    .default('on-policy')
    .meta({ description: 'Which text is edited: the answer, the reference, or none (styles as they are)' }),
  endpoint: endpointSettings
    .optional()
    .describe('A language model that judges and edits; without it, word rules do, offline'),
  judge: endpointSettings.optional().describe('A language model that checks every pair blindly'),
  wrongSentences: z
    .enum(['out', 'keep'])
    .default('out')
    .describe('Reports with a sentence that may be wrong and would stand on both sides: leave out, or keep and say so'),
  cache: text.optional().meta({ description: 'Folder of paid replies; default: <out>.cache', path: 'output' }),
  policy: input.optional().meta({
    description: 'Model folder; the report then has the perplexity of both sides',
    path: 'input',
  }),
  logprobFloor: z
    .number()
    .optional()
    .describe('Lowest log-probability of the edited text less the original, in nats under the policy; lower: no pair'),
  policyAdapter: input.optional().meta({ description: 'Its PEFT adapter folder', path: 'input' }),
  device: compute.device,
  seed: seed.meta({ description: 'Decides between edits that are equally good' }),
})

export type PairsSettings = z.output<typeof pairsSettings>
