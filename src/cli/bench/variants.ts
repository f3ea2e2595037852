/** A benchmark of variants as a command: flags, processes that end with it, a file for the results. */
import type { z } from 'zod'
import type { BenchHooks } from '../../bench/measure.js'
import type { Spread } from '../../bench/summary.js'
import { checkTree } from '../../settings/file.js'
import { type Command, defineCommand } from '../command.js'
import { addFlags, readFlags } from '../flags.js'
import { catchSignals } from '../signals.js'

interface BenchCommand<S extends z.ZodType, R> {
  name: string
  summary: string
  settings: S
  measure(settings: z.output<S>, hooks: BenchHooks): Promise<R>
  describe(result: R): string
  /** Whether what was compared agrees; without it every result is fine. */
  passed?(result: R): boolean
}

export function benchCommand<S extends z.ZodType, R>(bench: BenchCommand<S, R>): Command {
  return defineCommand({
    usage: bench.name,
    summary: bench.summary,
    options: (parser) => addFlags(parser, bench.settings),
    async run(options, { stdout, progress }) {
      const { tree, locate } = readFlags(bench.settings, options)
      const settings = checkTree(bench.settings, tree, locate)
      using stop = catchSignals((name) => progress.log(`${name}: ending the processes of the benchmark`))
      try {
        const result = await bench.measure(settings, { signal: stop.signal, progress })
        progress.end()
        stdout(bench.describe(result))
        const { out } = settings as { out?: string }
        const { writeJson } = await import('../../data/files.js')
        if (out !== undefined) await writeJson(out, result)
        return (bench.passed?.(result) ?? true) ? 0 : 1
      } catch (error) {
        if (stop.exitCode === undefined) throw error
        progress.end('stopped')
        return stop.exitCode
      }
    },
  })
}

/** "median (min-max)". */
export function withRange({ min, median, max }: Spread, format: (value: number) => string): string {
  return `${format(median)} (${format(min)}-${format(max)})`
}
