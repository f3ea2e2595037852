/** What a report can be told. */
import { z } from 'zod'
import { input, text } from '../settings/common.js'

export const reportSettings = z.strictObject({
  pairs: input.optional().meta({ description: 'Pair records, with or without corrupted twins', path: 'input' }),
  pairsReport: input
    .optional()
    .meta({ description: 'pairs.report.json, which `fire-train pairs` writes beside the pairs', path: 'input' }),
  metrics: input
    .optional()
    .meta({ description: 'metrics.jsonl in the folder of a complete training run', path: 'input' }),
  evaluation: input.optional().meta({ description: 'Folder that `fire-train evaluate` wrote', path: 'input' }),
  out: text.meta({ description: 'The page to write, one HTML file that loads nothing', path: 'output' }),
  title: text.default('fire-train').meta({ description: 'Title of the page; the objective is added to it' }),
  notes: z.array(text).default([]).meta({ description: 'Sentence to show below the headline (repeatable)' }),
})
