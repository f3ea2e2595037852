/** `import`: a published data set, or one's own, as sample and pair records. */
import { join } from 'node:path'
import { DataError } from '../errors.js'
import { defineStage } from '../stage/index.js'
import type { ImportReport } from './report.js'
import { importSettings, preferenceKinds } from './settings.js'

export const importStage = defineStage({
  name: 'import',
  summary: 'Turn a published data set, or one of your own, into sample and pair records',
  settings: importSettings,
  takes: {},
  out: { setting: 'out', name: '' },
  makes({ kind, out }) {
    if (preferenceKinds.includes(kind)) return { pairs: join(out, 'pairs.jsonl') }
    const samples = join(out, 'samples.jsonl')
    return { samples, heldOut: samples }
  },
  leaves: ({ out }) => [out],
  ignores: ({ splitByImage }) => (splitByImage === undefined ? ['seed'] : []),
  earlier: ['overwrite'],
  async run({ splitByImage: shares, seed, ...settings }, { signal, progress, overwrite }) {
    const { importData, parseShares } = await import('./index.js')
    progress.start('', 0, 'records')
    const report: ImportReport = await importData({
      ...settings,
      splitByImage: shares === undefined ? undefined : { parts: parseShares(shares), seed },
      overwrite,
      signal,
      onProgress: (read) => progress.update(read),
    })
    const left = Object.values(report.leftOut).reduce((sum, count) => sum + (count ?? 0), 0)
    const rest = left > 0 ? `, ${left} records left out: ${join(settings.out, 'import.report.json')}` : ''
    return {
      interrupted: false,
      summary: `${report.samples} samples, ${report.pairs} pairs${rest}`,
      report,
      problem: report.samples + report.pairs === 0 ? nothingTaken(report) : undefined,
    }
  },
})

function nothingTaken({ read, leftOut }: ImportReport): DataError {
  const missing = leftOut.missing_image || leftOut.no_image
  return new DataError(`Not one of ${read} records could be taken over`, {
    hint: missing ? '--images names their folder; --allow-missing-images takes the texts alone.' : undefined,
  })
}
