/** A benchmark of variants as a command: flags, processes that end with it, a file for the results. */
import type { z } from 'zod'
import type { BenchHooks } from '../../bench/measure.js'
import type { Spread } from '../../bench/summary.js'
import { type Command, defineCommand } from '../command.js'
import { catchSignals } from '../signals.js'

interface BenchCommand<S extends z.ZodType, R extends object> {
  name: string
  summary: string
  settings: S
  measure(settings: z.output<S>, hooks: BenchHooks): Promise<R>
  describe(result: R): string
  /** Whether what was compared agrees; without it every result is fine. */
  passed?(result: R): boolean
}

export function benchCommand<S extends z.ZodType, R extends object>(bench: BenchCommand<S, R>): Command {
  const { name, summary, settings } = bench
  return defineCommand({
    ...{ name, summary, settings },
    async run(checked, { progress }) {
      using stop = catchSignals((signal) => progress.log(`${signal}: ending the processes of the benchmark`))
      try {
        const result = await bench.measure(checked, { signal: stop.signal, progress })
        const { out } = checked as { out?: string }
        const { writeJson } = await import('../../data/files.js')
        if (out !== undefined) await writeJson(out, result)
        return { text: bench.describe(result), report: result, exitCode: (bench.passed?.(result) ?? true) ? 0 : 1 }
      } catch (error) {
        if (stop.exitCode === undefined) throw error
        const stopped = 'stopped; nothing was written; run the same command again'
        return { text: '', report: {}, stopped, exitCode: stop.exitCode }
      }
    },
  })
}

/** "median (min-max)". */
export function withRange({ min, median, max }: Spread, format: (value: number) => string): string {
  return `${format(median)} (${format(min)}-${format(max)})`
}
