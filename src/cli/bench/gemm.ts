import { ArgumentError } from '../../errors.js'
import { version } from '../../version.js'
import { defineCommand } from '../command.js'
import { formatTable } from '../format.js'

/** Sizes of adapted projections: tokens of a few packed pairs by typical widths. */
const defaultShapes = ['128x1024x1024', '512x1024x1024', '128x2560x2560']

export const gemm = defineCommand({
  usage: 'gemm',
  summary: 'Matrix products beside the register-only FMA ceiling of this machine',
  options: (parser) =>
    parser
      .option('threads', { type: 'number', default: 1, describe: 'Compute threads, 0 = all' })
      .option('seconds', { type: 'number', default: 1, describe: 'Time spent on each measurement' })
      .option('shape', {
        type: 'string',
        array: true,
        nargs: 1,
        default: defaultShapes,
        describe: 'MxNxK, for instance 128x1024x1024 (repeatable)',
      })
      .option('json', {
        type: 'boolean',
        default: false,
        describe: 'Print the rows, machine, commit and command as JSON',
      }),
  async run({ threads, seconds, shape, json }, { stdout }) {
    const shapes = shape.map(parseShape)
    const { loadNative } = await import('../../engine/load.js')
    const { describeCommit, describeMachine } = await import('../../bench/machine.js')
    // Read now: the files may change while the machine measures.
    const run = {
      benchmark: 'gemm',
      date: new Date().toISOString(),
      command: `fire-train bench gemm --threads ${threads} --seconds ${seconds} --shape ${shape.join(' --shape ')}`,
      version,
      commit: await describeCommit(),
      machine: describeMachine(),
    }
    const rows = await loadNative().benchGemm({ threads, seconds, shapes })
    if (json) {
      stdout(`${JSON.stringify({ ...run, rows }, null, 2)}\n`)
      return 0
    }
    const cells = rows.map((row) => [
      `${row.m}x${row.n}x${row.k}`,
      row.dtype,
      row.backend,
      row.gflops.toFixed(1),
      row.ceiling.toFixed(1),
      `${((100 * row.gflops) / row.ceiling).toFixed(0)} %`,
    ])
    stdout(`${formatTable(['shape', 'dtype', 'backend', 'GFLOP/s', 'ceiling', 'share'], cells)}\n`)
    return 0
  },
})

function parseShape(text: string): { m: number; n: number; k: number } {
  const match = /^(\d+)x(\d+)x(\d+)$/.exec(text)
  if (!match) throw new ArgumentError(`Expected MxNxK for --shape but received '${text}'`)
  const [m, n, k] = match.slice(1).map(Number)
  return { m, n, k }
}
