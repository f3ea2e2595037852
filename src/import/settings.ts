/** What an import can be told. */
import { z } from 'zod'
import { STANDARD } from '../phantom/types.js'
import { inputPath, outputPath, seed, text, whole } from '../settings/common.js'
import { isShares, someShares } from './split.js'

/** `phantom` is made, all others are read from a source. */
export const importKinds = ['vqa-rad', 'slake', 'iu-xray', 'mmedpo', 'rrpo', 'trl', 'jsonl', 'csv', 'phantom'] as const

/** Manifest of the masks in an import's folder, for the kinds that have masks. */
export const masksName = 'masks.jsonl'

/** Kinds that come with masks. */
export const maskedKinds: readonly string[] = ['slake', 'phantom']

/** Kinds whose records are pairs already. */
export const preferenceKinds: readonly string[] = ['mmedpo', 'rrpo', 'trl']

export const importSettings = z.strictObject({
  kind: z.enum(importKinds).meta({ description: 'What the source is' }),
  source: text
    .optional()
    .meta({ ...inputPath('File or unpacked folder; every kind but phantom needs it'), rulesOut: 'kind: phantom' }),
  out: text.meta(outputPath('Folder to write')),
  layout: text
    .optional()
    .meta({ description: 'Layout to read, where the source has several (docs/data.md)', rulesOut: 'kind: phantom' }),
  images: text.optional().meta({
    ...inputPath('Folder that image names are relative to; default: the source or its folder'),
    rulesOut: 'kind: phantom',
  }),
  allowMissingImages: z.boolean().default(false).meta({
    description: 'Keep records whose images are missing; otherwise they are left out and listed',
    rulesOut: 'kind: phantom',
  }),
  language: z.enum(['en', 'zh', 'all']).default('all').meta({
    description: 'Language of the questions',
    needs: 'kind: slake',
  }),
  closedRule: z
    .enum(['answer_type', 'yes_no_exact', 'paper_substring'])
    .default('answer_type')
    .meta({ description: 'Which questions count as closed (docs/data.md)', rulesOut: 'kind: phantom' }),
  splitByImage: text.refine(isShares, someShares).optional().meta({
    description: 'New splits that share no image, for instance 80/10/10 (train/validation/test)',
    rulesOut: 'kind: phantom',
  }),
  seed: seed.meta({
    description: 'Seed of the new splits, or of the phantom images',
    needs: ['splitByImage', 'kind: phantom'],
  }),
  section: z
    .enum(['findings', 'impression', 'both'])
    .default('findings')
    .meta({ description: 'Part of the report that is the answer', needs: 'kind: iu-xray' }),
  question: text.optional().meta({ description: 'Question of every sample', needs: 'kind: iu-xray' }),
  trainStudies: whole.default(200).meta({
    description: 'Images to train on, each with about six questions',
    unit: 'images',
    needs: 'kind: phantom',
  }),
  validationStudies: whole.default(0).meta({
    description: 'Images of the split validation, to choose settings on',
    unit: 'images',
    needs: 'kind: phantom',
  }),
  testStudies: whole.default(150).meta({ description: 'Held-out images', unit: 'images', needs: 'kind: phantom' }),
  contrast: z.number().gt(0).max(1).default(STANDARD.contrast).meta({
    description: 'Contrast of the findings, as a share of the standard one (docs/demo.md)',
    needs: 'kind: phantom',
  }),
  findingSize: z.number().min(0.6).max(1).default(STANDARD.size).meta({
    description: 'Size of the findings that are not called large, as a share of the standard one',
    needs: 'kind: phantom',
  }),
  fullReports: z.boolean().default(STANDARD.fullReports).meta({
    description: 'Every report is on all four regions, instead of on two to four',
    needs: 'kind: phantom',
  }),
})
