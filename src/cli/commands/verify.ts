import { z } from 'zod'
import type { VerifyRow } from '../../engine/engine.js'
import { compute, text } from '../../settings/common.js'
import { defineCommand } from '../command.js'
import { formatDifference, formatTable } from '../format.js'

export const verify = defineCommand({
  name: 'verify',
  summary: 'Compare the engine with reference tensors, group by group',
  settings: z.strictObject({
    directory: text.meta({ description: 'Golden folder: model and references' }),
    ...compute,
  }),
  positionals: ['directory'],
  async run({ directory, ...spec }, { progress }) {
    const { loadNative } = await import('../../engine/load.js')
    progress.start(`verify ${directory}`, 0, 'groups')
    let done = 0
    const onRow = (row: VerifyRow): void => {
      done += 1
      progress.update(done, row.group)
    }
    const rows = await loadNative().verify({ directory, ...spec, freeBytes: process.availableMemory() }, onRow)
    const failed = rows.filter((row) => !row.pass).length
    progress.end(failed === 0 ? 'all within tolerance' : `${failed} out of tolerance`)
    const passed = rows.length > 0 && failed === 0
    return {
      text: `${table(rows)}\n`,
      report: { directory, device: spec.device, dtype: spec.dtype, passed, rows },
      exitCode: passed ? 0 : 1,
    }
  },
})

function table(rows: VerifyRow[]): string {
  const cells = rows.map((row) => [
    row.group,
    row.tensors,
    formatDifference(row.maxAbs),
    formatDifference(row.maxRel),
    row.tolerance,
    row.pass ? 'pass' : `MISS  ${row.worst}`,
  ])
  const total = `${rows.filter((row) => row.pass).length} of ${rows.length} groups within tolerance`
  return `${formatTable(['group', 'tensors', 'max abs', 'max rel', 'tolerance', 'result'], cells)}\n${total}`
}
