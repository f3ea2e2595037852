/** `corrupt`: twins of the pairs' images with the lesion hidden. */
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { corruptPairs } from '../../corrupt/index.js'
import { defineStage } from '../stage.js'

const share = z.number().min(0).max(1)

const schema = z.strictObject({
  /** Pair records; default: those of the stages before. */
  pairs: z.string().min(1).optional(),
  /** What image paths are relative to; default: the folder of the pairs. */
  images: z.string().min(1).optional(),
  /** Manifest or folder of masks. */
  masks: z.string().min(1).optional(),
  maskRoot: z.string().min(1).optional(),
  segmenter: z
    .strictObject({
      url: z.string().min(1),
      /** The environment variable with the bearer token. */
      tokenEnv: z.string().min(1).nullable().default(null),
      threshold: share.default(0.5),
      nmsIou: share.default(0.5),
      /** Seconds for one answer. */
      timeout: z.number().positive().default(60),
      retries: z.number().int().nonnegative().default(4),
    })
    .optional(),
  method: z.enum(['lesion-noise', 'lesion-blackout', 'image-noise', 'crop', 'blackout']).default('lesion-noise'),
  /** Grey levels; default: the published ones of the method. */
  sigma: z.number().positive().optional(),
  fallback: z.enum(['image-noise', 'skip', 'error']).default('image-noise'),
  fallbackSigma: z.number().positive().default(12),
  maxCoverage: share.default(0.8),
  resizeMasks: z.boolean().default(false),
  niftiOrientation: z.enum(['affine', 'voxel', 'numpy']).optional(),
})

export const corruptStage = defineStage({
  section: 'corrupt',
  schema,
  paths: [['pairs'], ['images'], ['masks'], ['maskRoot']],
  plan({ settings, shared, artifacts, folder, fail }) {
    const { pairs: given, images, masks = artifacts.masks, maskRoot, segmenter, ...decisive } = settings
    const pairs = given ?? artifacts.pairs ?? fail(['pairs'], 'corrupt.pairs is missing: no stage makes pairs')
    const sheet = join(folder, 'sheet.html')
    const out = join(folder, 'pairs.jsonl')
    artifacts.pairs = out
    return {
      name: 'corrupt',
      inputs: [pairs, ...(masks ? [masks] : [])],
      settings: {
        ...decisive,
        seed: shared.seed,
        segmenter: segmenter && { url: segmenter.url, threshold: segmenter.threshold },
      },
      outputs: [out, sheet],
      async run({ signal, progress }) {
        let started = false
        const service = segmenter && {
          ...{
            url: segmenter.url,
            threshold: segmenter.threshold,
            nmsIou: segmenter.nmsIou,
            retries: segmenter.retries,
          },
          token: segmenter.tokenEnv === null ? undefined : process.env[segmenter.tokenEnv]?.trim(),
          ...{ timeoutMs: segmenter.timeout * 1000, delayMs: 1000 },
        }
        const result = await corruptPairs({
          ...decisive,
          ...{
            pairs,
            images: images ?? dirname(pairs),
            out: folder,
            masks,
            maskRoot,
            segmenter: service,
            sheet,
            signal,
          },
          seed: shared.seed,
          sheetRows: 100,
          onLog: (line) => progress.log(line),
          onProgress(done, total) {
            if (!started) progress.start('', total, 'pairs')
            started = true
            progress.update(done)
          },
        }).catch((error) => {
          if (!signal?.aborted) throw error
        })
        if (!result) return { interrupted: true, summary: '' }
        const { methods, skipped } = result.report
        const twins = Object.entries(methods).map(([method, number]) => `${number} by ${method}`)
        if (skipped > 0) twins.push(`${skipped} pairs without a twin`)
        return { interrupted: false, summary: `${twins.join(', ')}; look at ${sheet}` }
      },
    }
  },
})
