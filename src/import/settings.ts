/** What an import can be told. */
import { z } from 'zod'
import { input, seed, text, whole } from '../settings/common.js'

/** `phantom` is made, all others are read from a source. */
export const importKinds = ['vqa-rad', 'slake', 'iu-xray', 'mmedpo', 'rrpo', 'trl', 'jsonl', 'csv', 'phantom'] as const

/** Manifest of the phantom world's masks, in its folder. */
export const phantomMasks = 'masks.jsonl'

/** Kinds whose records are pairs already. */
export const preferenceKinds: readonly string[] = ['mmedpo', 'rrpo', 'trl']

export const importSettings = z.strictObject({
  kind: z.enum(importKinds).meta({ description: 'What the source is' }),
  source: input
    .optional()
    .meta({ description: 'File or unpacked folder; all kinds but phantom need it', path: 'input' }),
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
  seed: seed.meta({ description: 'Of the new splits, or of the phantom world' }),
  section: z
    .enum(['findings', 'impression', 'both'])
    .default('findings')
    .meta({ description: 'iu-xray: what the answer is' }),
  question: text.optional().meta({ description: 'iu-xray: the instruction of every sample' }),
  trainStudies: whole.default(200).meta({ description: 'phantom: studies to train on, each with about six questions' }),
  testStudies: whole.default(150).meta({ description: 'phantom: held-out studies' }),
})
