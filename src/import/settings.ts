/** What an import can be told. */
import { z } from 'zod'
import { input, seed, text } from '../settings/common.js'

export const importKinds = ['vqa-rad', 'slake', 'iu-xray', 'mmedpo', 'rrpo', 'trl', 'jsonl', 'csv'] as const

/** Kinds whose records are pairs already. */
export const preferenceKinds: readonly string[] = ['mmedpo', 'rrpo', 'trl']

export const importSettings = z.strictObject({
  kind: z.enum(importKinds).meta({ description: 'What the source is' }),
  source: input.meta({ description: 'File or unpacked folder', path: 'input' }),
  out: text.meta({ description: 'Folder to make', path: 'output' }),
  layout: text.optional().meta({ description: 'Only where the source holds several layouts of its kind' }),
  images: input
    .optional()
    .meta({ description: 'Root of the image names; default: the source or its folder', path: 'input' }),
  allowMissingImages: z
    .boolean()
    .default(false)
    .meta({ description: 'Keep records whose images are not there; otherwise they are left out and listed' }),
  language: z.enum(['en', 'zh', 'all']).default('all').meta({ description: 'slake: the language of the questions' }),
  closedRule: z
    .enum(['answer_type', 'yes_no_exact', 'paper_substring'])
    .default('answer_type')
    .meta({ description: 'What counts as a closed question' }),
  splitByImage: text
    .optional()
    .meta({ description: 'New splits that share no image, for instance 80/10/10 (train/validation/test)' }),
  seed: seed.meta({ description: 'Of the new splits' }),
  section: z
    .enum(['findings', 'impression', 'both'])
    .default('findings')
    .meta({ description: 'iu-xray: what the answer is' }),
  question: text.optional().meta({ description: 'iu-xray: the instruction of every sample' }),
})
