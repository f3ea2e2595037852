/** `import`: a published data set, or one's own, as sample and pair records. */
import { join } from 'node:path'
import type { z } from 'zod'
import { DataError } from '../errors.js'
import { checkTree, configError, type Locate } from '../settings/file.js'
import type { Tree } from '../settings/source.js'
import { defineStage } from '../stage/index.js'
import { counted } from '../text/plural.js'
import type { ImportReport } from './report.js'
import { importSettings, maskedKinds, masksName, preferenceKinds } from './settings.js'

type Settings = z.output<typeof importSettings>

/** What only the phantom world reads. */
const phantomSettings = ['trainStudies', 'validationStudies', 'testStudies', 'contrast', 'findingSize', 'fullReports']

export const importStage = defineStage({
  name: 'import',
  summary: 'Turn a published data set, or one of your own, into sample and pair records',
  settings: importSettings,
  check,
  takes: {},
  out: { setting: 'out', name: '' },
  makes({ kind, out }) {
    if (preferenceKinds.includes(kind)) return { pairs: join(out, 'pairs.jsonl') }
    const samples = join(out, 'samples.jsonl')
    return { samples, heldOut: samples, masks: maskedKinds.includes(kind) ? join(out, masksName) : undefined }
  },
  leaves: ({ out }) => [out],
  reads({ kind, source, images, out }) {
    if (kind === 'phantom' || source === undefined || images !== undefined) return []
    const files = async (): Promise<string[]> => {
      const { kinds } = await import('./import.js')
      const { imagesBeside } = await import('./named.js')
      return imagesBeside(source, kinds[kind], out)
    }
    return [{ input: source, files }]
  },
  ignores({ kind, splitByImage }) {
    if (kind === 'phantom') return []
    return [...phantomSettings, ...(splitByImage === undefined ? ['seed'] : [])]
  },
  positionals: ['kind', 'source'],
  earlier: ['overwrite'],
  async run(
    {
      splitByImage: shares,
      seed,
      trainStudies,
      validationStudies,
      testStudies,
      contrast,
      findingSize,
      fullReports,
      ...settings
    },
    { signal, progress, overwrite },
  ) {
    const { importData, parseShares } = await import('./index.js')
    progress.start('', 0, 'records')
    const report: ImportReport = await importData({
      ...settings,
      phantom: {
        ...{ trainStudies, validationStudies, testStudies, seed },
        difficulty: { contrast, size: findingSize, fullReports },
      },
      splitByImage: shares === undefined ? undefined : { parts: parseShares(shares), seed },
      overwrite,
      signal,
      onProgress: (read) => progress.update(read),
    })
    const left = Object.values(report.leftOut).reduce((sum, count) => sum + (count ?? 0), 0)
    const rest = left > 0 ? `, ${counted(left, 'record')} left out: ${join(settings.out, 'import.report.json')}` : ''
    return {
      interrupted: false,
      summary: `${counted(report.samples, 'sample')}, ${counted(report.pairs, 'pair')}${rest}`,
      report,
      problem: report.samples + report.pairs === 0 ? nothingTaken(report) : undefined,
    }
  },
})

function check(tree: Tree, locate: Locate): Settings {
  const settings = checkTree(importSettings, tree, locate)
  if (settings.kind === 'phantom' || settings.source !== undefined) return settings
  throw configError([{ path: ['source'], message: `The kind ${settings.kind} needs a source to read` }], locate)
}

function nothingTaken({ read, leftOut }: ImportReport): DataError {
  const missing = leftOut.missing_image || leftOut.no_image
  return new DataError(`Not one of ${read} records could be taken over`, {
    hint: missing ? '--images names their folder; --allow-missing-images takes the texts alone.' : undefined,
  })
}
