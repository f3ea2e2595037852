import type { VerifyRow } from '../../engine/engine.js'
import { defineCommand } from '../command.js'
import { deviceOption } from '../device.js'
import { formatDifference, formatTable } from '../format.js'

export const verify = defineCommand({
  usage: 'verify <directory>',
  summary: 'Hold the engine against reference tensors, group by group',
  options: (parser) =>
    parser
      .positional('directory', { type: 'string', demandOption: true, describe: 'Golden folder: model and references' })
      .option('device', deviceOption)
      .option('dtype', { choices: ['f32', 'bf16'] as const, default: 'f32' as const, describe: 'Matrix arithmetic' })
      .option('threads', { type: 'number', default: 0, describe: '0 = all' })
      .option('json', { type: 'boolean', default: false, describe: 'Print one JSON object instead of the table' }),
  async run({ directory, device, dtype, threads, json }, { stdout, progress }) {
    const { loadNative } = await import('../../engine/load.js')
    progress.start(`verify ${directory}`, 0, 'groups')
    let done = 0
    const onRow = (row: VerifyRow): void => {
      done += 1
      progress.update(done, row.group)
    }
    const rows = await loadNative().verify({ directory, device, dtype, threads }, onRow)
    const failed = rows.filter((row) => !row.pass).length
    progress.end(failed === 0 ? 'all within tolerance' : `${failed} out of tolerance`)
    const passed = rows.length > 0 && failed === 0
    stdout(json ? `${JSON.stringify({ directory, device, dtype, passed, rows }, null, 2)}\n` : `${table(rows)}\n`)
    return passed ? 0 : 1
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
