/** What a report can be told. */
import { z } from 'zod'
import { inputPath, outputPath, rootPath, text } from '../settings/common.js'

export const reportSettings = z.strictObject({
  pairs: text.optional().meta(inputPath('Pair records, with or without corrupted twins')),
  pairsReport: text.optional().meta(inputPath('pairs.report.json, which `fire-train pairs` writes beside the pairs')),
  metrics: text.optional().meta(inputPath('metrics.jsonl in the folder of a complete training run')),
  evaluation: text.optional().meta(inputPath('Folder that `fire-train evaluate` wrote')),
  rounds: z
    .array(text)
    .default([])
    .meta(rootPath('Folder of a round of a pipeline, round-1, round-2, … (repeatable): what became of each')),
  out: text.meta(outputPath('The page to write, one HTML file that loads nothing')),
  title: text.default('fire-train').meta({ description: 'Title of the page; the objective is added to it' }),
  notes: z.array(text).default([]).meta({ description: 'Sentence to show below the headline (repeatable)' }),
})
