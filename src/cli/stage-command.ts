/** A stage as a command: its flags, its run, its exit code. */
import type { z } from 'zod'
import { DiskFullError, FireError } from '../errors.js'
import { flagOf, settingsOf } from '../settings/setting.js'
import { titled } from '../stage/progress.js'
import { checkSettings, runStage, type Stage } from '../stage/stage.js'
import { type Command, type CommandContext, defineCommand } from './command.js'
import { addFlags, readFlags } from './flags.js'
import { catchSignals } from './signals.js'

export interface StageCommand<T, R> {
  examples?: readonly (readonly [line: string, what: string])[]
  notes?: string
  /** The result for a person; default: the stage's summary. */
  describe?(report: R, settings: T): string
}

/** What to do about an earlier run: no settings, since no file of a pipeline has them. */
const earlierFlags = {
  resume: 'Go on from where an earlier run stopped',
  overwrite: 'Replace what an earlier run left',
} as const

export type EarlierFlags = { [name in keyof typeof earlierFlags]?: boolean }

export function stageCommand<T, R>(stage: Stage<T, R>, command: StageCommand<T, R> = {}): Command {
  const { positionals = [] } = stage
  const { examples, notes = 'After a stop of any kind, run the same command again: it continues.' } = command
  return defineCommand({
    usage: [stage.name, ...positionals.map((name) => placeOf(name, stage.settings))].join(' '),
    summary: stage.summary,
    options(parser) {
      addFlags(parser, stage.settings, positionals)
      for (const name of stage.earlier ?? []) parser.option(name, { type: 'boolean', describe: earlierFlags[name] })
      return parser
    },
    examples,
    notes,
    run: async (options, context) => {
      const { tree, locate } = readFlags(stage.settings, options)
      return await executeStage(stage, checkSettings(stage, tree, locate), options as EarlierFlags, context, command)
    },
  })
}

/** `<source>`, or `[source]` where it may be left out. */
function placeOf(name: string, settings: z.ZodType): string {
  const isRequired = settingsOf(settings).some((setting) => flagOf(setting) === name && setting.required === 'always')
  return isRequired ? `<${name}>` : `[${name}]`
}

/** Runs a stage for a person; resolves with the exit code. */
export async function executeStage<T, R>(
  stage: Stage<T, R>,
  settings: T,
  { resume, overwrite }: EarlierFlags,
  { progress, stdout, stderr }: CommandContext,
  { describe }: Pick<StageCommand<T, R>, 'describe'>,
): Promise<number> {
  using stop = catchSignals((name) => progress.log(`${name}: saving and stopping; again to leave at once`))
  const context = { signal: stop.signal, progress: titled(progress, stage.name), resume, overwrite }
  const continued = `run the same command again${stage.earlier?.includes('resume') ? ' with --resume' : ''}`
  const result = await runStage({ run: (given) => stage.run(settings, given) }, context).catch((error) => {
    if (!(error instanceof DiskFullError)) throw error
    throw new DiskFullError(error.message, {
      detail: error.detail,
      hint: `Free some space and ${continued}.`,
      cause: error,
    })
  })
  progress.end(result.interrupted ? 'stopped' : undefined)
  if (result.report !== undefined && describe) stdout(describe(result.report, settings))
  else if (result.summary !== '') stdout(`${result.summary}\n`)
  if (result.interrupted) {
    stderr(`stopped; ${continued} to continue\n`)
    return stop.exitCode ?? 1
  }
  if (result.problem instanceof FireError) throw result.problem
  return 0
}
