import { z } from 'zod'
import { type Pipeline, pipelineSchema } from '../../pipeline/index.js'
import { type CommandContext, defineCommand, type Outcome } from '../command.js'
import { fileSettings, flag } from '../file-settings.js'
import { catchSignals } from '../signals.js'

export const run = defineCommand({
  name: 'run',
  summary: 'Run the stages of a pipeline file; skip those for which nothing changed',
  settings: z.strictObject({
    ...fileSettings,
    dryRun: flag('Say what would run and why, and do nothing'),
  }),
  positionals: ['config'],
  file: pipelineSchema(),
  examples: [['run slake.yaml --dry-run', 'which stages would run']],
  notes: 'After a stop of any kind, run the same command again: it continues.',
  async run({ config, set, dryRun }, context) {
    const { loadPipeline, planPipeline } = await import('../../pipeline/index.js')
    const pipeline = await loadPipeline(config, set)
    if (!dryRun) return await runStages(pipeline, context)
    const plan = await planPipeline(pipeline)
    return { text: plan.map((line) => `${line}\n`).join(''), report: { plan } }
  },
})

/** Runs a pipeline in front of a person. */
export async function runStages(pipeline: Pipeline, { progress }: CommandContext): Promise<Outcome> {
  const { runPipeline } = await import('../../pipeline/index.js')
  using stop = catchSignals((name) => progress.log(`${name}: saving and stopping; again to leave at once`))
  const report = await runPipeline(pipeline, { signal: stop.signal, progress })
  const lines = report.stages.map(
    ({ name, reason, summary }) => `${name}: ${summary}${reason === null ? ' (unchanged)' : ''}\n`,
  )
  const outcome = { text: lines.join(''), report: { output: pipeline.output, ...report } }
  if (report.interrupted === null) return outcome
  const stopped = `stopped in stage ${report.interrupted}; what was finished is kept in ${pipeline.output}; run the same command again to continue`
  return { ...outcome, stopped, exitCode: stop.exitCode ?? 1 }
}
