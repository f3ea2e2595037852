/** What a report can be told. */
import { z } from 'zod'
import { input, text } from '../settings/common.js'

export const reportSettings = z.strictObject({
  pairs: input.optional().meta({ description: 'Pair records, with corrupted twins or without', path: 'input' }),
  pairsReport: input.optional().meta({ description: 'pairs.report.json of their making', path: 'input' }),
  metrics: input
    .optional()
    .meta({ description: 'metrics.jsonl of a training run; its configuration lies beside it', path: 'input' }),
  evaluation: input.optional().meta({ description: 'Folder of an evaluation', path: 'input' }),
  out: text.meta({ description: 'The page, one HTML file that loads nothing', path: 'output' }),
  title: text.default('fire-train').meta({ description: 'Title of the page; the objective is put behind it' }),
  notes: z
    .array(text)
    .default([])
    .meta({ description: 'Sentences below the headline, for what the numbers do not say' }),
})
