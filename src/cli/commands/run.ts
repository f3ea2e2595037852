import type { Pipeline } from '../../pipeline/index.js'
import { type CommandContext, defineCommand } from '../command.js'
import { addFile } from '../flags.js'
import { catchSignals } from '../signals.js'

export const run = defineCommand({
  usage: 'run <config>',
  summary: 'Run the stages of a pipeline file; skip those for which nothing changed',
  options: (parser) =>
    addFile(parser, 'YAML file with the stages').option('dry-run', {
      type: 'boolean',
      default: false,
      describe: 'Say what would run and why, and do nothing',
    }),
  examples: [['run slake.yaml --dry-run', 'which stages would run']],
  notes: 'After a stop of any kind, run the same command again: it continues.',
  async run({ config, set, dryRun }, context) {
    const { loadPipeline, planPipeline } = await import('../../pipeline/index.js')
    const pipeline = await loadPipeline(config, set)
    if (dryRun) {
      for (const line of await planPipeline(pipeline)) context.stdout(`${line}\n`)
      return 0
    }
    return await runStages(pipeline, context)
  },
})

/** Runs a pipeline in front of a person; resolves with the exit code. */
export async function runStages(pipeline: Pipeline, { stdout, stderr, progress }: CommandContext): Promise<number> {
  const { runPipeline } = await import('../../pipeline/index.js')
  using stop = catchSignals((name) => progress.log(`${name}: saving and stopping; again to leave at once`))
  const { stages, interrupted } = await runPipeline(pipeline, { signal: stop.signal, progress })
  for (const { name, reason, summary } of stages)
    stdout(`${name}: ${summary}${reason === null ? ' (unchanged)' : ''}\n`)
  if (interrupted === null) return 0
  stderr(`stopped in stage ${interrupted}; run the same command again to continue\n`)
  return stop.exitCode ?? 1
}
