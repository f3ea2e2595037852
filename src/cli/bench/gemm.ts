import { z } from 'zod'
import { ArgumentError } from '../../errors.js'
import { text, whole } from '../../settings/common.js'
import { version } from '../../version.js'
import { defineCommand } from '../command.js'
import { formatTable } from '../format.js'

/** Sizes of adapted projections: tokens of a few packed pairs by typical widths. */
const defaultShapes = ['128x1024x1024', '512x1024x1024', '128x2560x2560']

const gemmBenchSettings = z.strictObject({
  threads: whole.default(1).meta({ description: 'Compute threads; 0 = all' }),
  seconds: z.number().positive().default(1).meta({ description: 'Time spent on each measurement' }),
  shape: z.array(text).default(defaultShapes).meta({ description: 'MxNxK, for instance 128x1024x1024 (repeatable)' }),
})

export const gemm = defineCommand({
  name: 'gemm',
  summary: "Matrix products compared with the machine's own multiply-add ceiling",
  settings: gemmBenchSettings,
  async run({ threads, seconds, shape }) {
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
    const cells = rows.map((row) => [
      `${row.m}x${row.n}x${row.k}`,
      row.dtype,
      row.backend,
      row.gflops.toFixed(1),
      row.ceiling.toFixed(1),
      `${((100 * row.gflops) / row.ceiling).toFixed(0)} %`,
    ])
    const table = formatTable(['shape', 'dtype', 'backend', 'GFLOP/s', 'ceiling', 'share'], cells)
    return { text: `${table}\n`, report: { ...run, rows } }
  },
})

function parseShape(text: string): { m: number; n: number; k: number } {
  const match = /^(\d+)x(\d+)x(\d+)$/.exec(text)
  if (!match) throw new ArgumentError(`Expected MxNxK for --shape but received '${text}'`)
  const [m, n, k] = match.slice(1).map(Number)
  return { m, n, k }
}
