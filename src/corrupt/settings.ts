/** What the corruption of images can be told. */
import { z } from 'zod'
import { anAddress, isAddress } from '../http/service.js'
import { count, inputPath, outputPath, rootPath, seed, share, text, whole } from '../settings/common.js'
import { corruptionMethods } from './methods.js'
import { seedings } from './seed.js'

export const segmenterSettings = z.strictObject({
  url: z
    .string()
    .refine(isAddress, anAddress)
    .meta({ description: 'Address of a segmentation service, for images that have no mask', secret: true }),
  keyEnv: text
    .nullable()
    .default(null)
    .meta({ secret: true, description: 'Environment variable that holds its token', free: true }),
  threshold: share.default(0.5).meta({ description: 'Detections with a lower score do not count' }),
  nmsIou: share.default(0.5).meta({ description: 'Two detections that overlap more (IoU) count as one' }),
  timeout: z
    .number()
    .positive()
    .max(300)
    .default(60)
    .meta({ description: 'Longest time of one attempt', unit: 'seconds', free: true }),
  retries: whole
    .default(4)
    .meta({ description: 'Further attempts after a temporary failure', unit: 'attempts', free: true }),
})

export const corruptSettings = z.strictObject({
  pairs: text.meta(inputPath('Pair records, JSON Lines')),
  images: text.optional().meta(rootPath('Folder that image paths are relative to; default: that of the pairs')),
  out: text.meta(outputPath('Folder for pairs.jsonl, corrupted/, masks/ and sheet.html')),
  masks: text
    .optional()
    .meta(
      inputPath(
        "Manifest (JSON Lines of {image, concept?, mask}) or folder of masks; masks in SLAKE's own folders need no option",
      ),
    ),
  maskRoot: text
    .optional()
    .meta({ ...rootPath('Folder that masks must lie in; default: that of the manifest'), needs: 'masks' }),
  segmenter: segmenterSettings.optional().describe('A service that finds masks, for images that have none'),
  method: z.enum(corruptionMethods).default('lesion-noise').meta({
    description: 'lesion-*: inside the mask, or a moved one (-elsewhere); the others: the whole image, for ablations',
  }),
  sigma: z
    .number()
    .positive()
    .max(255)
    .optional()
    .meta({
      description: 'Standard deviation of the noise; default: 45 in a mask, 12 on an image',
      unit: 'grey levels of 0 to 255',
      needs: ['method: lesion-noise', 'method: lesion-noise-elsewhere', 'method: image-noise'],
    }),
  grain: z.enum(['image', 'model']).default('image').meta({
    description:
      "Whose pixels the noise is independent in: image (published) or model, which keeps σ in the model's view",
  }),
  model: text
    .optional()
    .meta(inputPath("Model folder: how strong the noise is in the model's view is measured; needed by grain: model")),
  fallback: z.enum(['image-noise', 'skip', 'error']).default('image-noise').meta({
    description: 'Images without a usable mask: noise on the whole image, no corrupted twin, or stop with an error',
  }),
  fallbackSigma: z.number().positive().max(255).default(12).meta({
    description: 'Standard deviation of the noise of that fallback',
    unit: 'grey levels of 0 to 255',
    needs: 'fallback: image-noise',
  }),
  maxCoverage: z
    .number()
    .gt(0)
    .max(1)
    .default(0.8)
    .meta({ description: 'A mask that covers a larger share of the image is not used' }),
  resizeMasks: z
    .boolean()
    .default(false)
    .meta({ description: 'Scale masks of another size to the image (nearest neighbour)' }),
  niftiOrientation: z
    .enum(['affine', 'voxel', 'numpy'])
    .optional()
    .meta({ description: 'Orientation of NIfTI masks whose file does not give one (docs/corruption.md)' }),
  sheetRows: count
    .default(100)
    .meta({ description: 'Most pairs on the contact sheet, evenly spread over the file', unit: 'pairs' }),
  seed: seed.meta({ description: 'Seed of the noise; that of a twin follows from it and from what seedBy names' }),
  seedBy: z.enum(seedings).default('pair').meta({
    description:
      'Whose the noise is: that of the pair, by its id (published), or of image and mask, so that questions share twins',
  }),
})

export type CorruptSettings = z.output<typeof corruptSettings>
