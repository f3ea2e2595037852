/** `import`: a published data set, or one's own, as sample and pair records. */
import { join } from 'node:path'
import { z } from 'zod'
import { importData, importKinds, parseShares, phantomMasks } from '../../import/index.js'
import { defineStage } from '../stage.js'

/** Kinds whose records are pairs already. */
const preferenceKinds = new Set(['mmedpo', 'rrpo', 'trl'])

const schema = z.strictObject({
  kind: z.enum(importKinds as [string, ...string[]]),
  /** File or unpacked folder; every kind but `phantom` needs it. */
  source: z.string().min(1).optional(),
  /** Root of the image names; default: the source or its folder. */
  images: z.string().min(1).optional(),
  layout: z.string().optional(),
  allowMissingImages: z.boolean().default(false),
  language: z.enum(['en', 'zh', 'all']).default('all'),
  closedRule: z.enum(['answer_type', 'yes_no_exact', 'paper_substring']).default('answer_type'),
  /** New splits that share no image, for instance 80/10/10. */
  splitByImage: z.string().optional(),
  section: z.enum(['findings', 'impression', 'both']).default('findings'),
  question: z.string().optional(),
  /** phantom: studies whose questions are for training; each has about six. */
  trainStudies: z.number().int().nonnegative().default(200),
  /** phantom: held-out studies. */
  testStudies: z.number().int().nonnegative().default(150),
})

export const importStage = defineStage({
  section: 'import',
  schema,
  paths: [['source'], ['images']],
  plan({ settings, shared, artifacts, folder, fail }) {
    const { splitByImage: shares, trainStudies, testStudies, ...wanted } = settings
    const { source, images, ...decisive } = settings
    if (settings.kind === 'phantom') artifacts.masks = join(folder, phantomMasks)
    else if (source === undefined) fail(['source'], 'import.source is missing')
    const phantom = { trainStudies, testStudies, seed: shared.seed }
    const splitByImage = shares === undefined ? undefined : { parts: parseShares(shares), seed: shared.seed }
    if (preferenceKinds.has(settings.kind)) {
      artifacts.pairs = join(folder, 'pairs.jsonl')
    } else {
      artifacts.samples = artifacts.heldOut = join(folder, 'samples.jsonl')
    }
    return {
      name: 'import',
      inputs: [source ?? [], images ?? []].flat(),
      settings: {
        ...decisive,
        ...(splitByImage ? { splitByImage } : {}),
        ...(settings.kind === 'phantom' && { phantom }),
      },
      outputs: [folder],
      async run({ signal, progress }) {
        progress.start('', 0, 'records')
        const onProgress = (read: number): void => progress.update(read)
        const request = { ...wanted, phantom, splitByImage, out: folder, overwrite: true, signal, onProgress }
        const report = await importData(request).catch((error) => {
          if (!signal?.aborted) throw error
        })
        if (!report) return { interrupted: true, summary: '' }
        const left = Object.values(report.leftOut).reduce((sum, count) => sum + (count ?? 0), 0)
        const rest = left > 0 ? `, ${left} records left out: ${join(folder, 'import.report.json')}` : ''
        return { interrupted: false, summary: `${report.samples} samples, ${report.pairs} pairs${rest}` }
      },
    }
  },
})
