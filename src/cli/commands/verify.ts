import { z } from 'zod'
import type { VerifyRow } from '../../engine/engine.js'
import { compute } from '../../settings/common.js'
import { checkTree } from '../../settings/file.js'
import { defineCommand } from '../command.js'
import { addFlags, readFlags } from '../flags.js'
import { formatDifference, formatTable } from '../format.js'

const verifySettings = z.strictObject(compute)

export const verify = defineCommand({
  usage: 'verify <directory>',
  summary: 'Compare the engine with reference tensors, group by group',
  options: (parser) =>
    addFlags(parser, verifySettings)
      .positional('directory', { type: 'string', demandOption: true, describe: 'Golden folder: model and references' })
      .option('json', { type: 'boolean', default: false, describe: 'Print one JSON object instead of the table' }),
  async run({ directory, json, ...options }, { stdout, progress }) {
    const { tree, locate } = readFlags(verifySettings, options)
    const { device, dtype, threads } = checkTree(verifySettings, tree, locate)
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
