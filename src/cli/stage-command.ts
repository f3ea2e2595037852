/** A stage as a command: its flags, its run, what is said of it. */
import { stat } from 'node:fs/promises'
import { z } from 'zod'
import { markFolder, sha256File } from '../data/files.js'
import { DiskFullError, RankError } from '../errors.js'
import type { Joined } from '../ranks/join.js'
import { requireSame } from '../ranks/same.js'
import { readSettings, refuseUseless } from '../settings/file.js'
import { identityOf, pathsOf, valueAt } from '../settings/setting.js'
import { titled } from '../stage/progress.js'
import { checkSettings, runStage, type Stage } from '../stage/stage.js'
import { version } from '../version.js'
import { type Command, type CommandContext, defineCommand, type Outcome } from './command.js'
import { fileSettings, flag } from './file-settings.js'
import { asRank } from './ranks.js'

export interface StageCommand<T, R> {
  examples?: readonly (readonly [line: string, what: string])[]
  notes?: string
  further?: readonly Command[]
  /** The result for a person; default: the stage's summary. */
  describe?(report: R, settings: T): string
}

/** What to do about an earlier run: no settings, since no file of a pipeline has them. */
const earlierFlags = {
  resume: flag('Go on from where an earlier run stopped'),
  overwrite: flag('Replace what an earlier run left'),
}

export type EarlierFlags = { [name in keyof typeof earlierFlags]?: boolean }

export function stageCommand<T, R>(stage: Stage<T, R>, command: StageCommand<T, R> = {}): Command {
  const { name, summary, settings, positionals, earlier = [] } = stage
  const { examples, notes = 'After a stop of any kind, run the same command again: it continues.', further } = command
  const flags = z.strictObject(Object.fromEntries(earlier.map((each) => [each, earlierFlags[each]])))
  const ranks = stage.byRank ? 'together' : undefined
  const fromFile = defineCommand({
    ...{ ranks, name, summary, flags: flags as z.ZodType<EarlierFlags>, notes },
    settings: z.strictObject(fileSettings),
    positionals: ['config'],
    file: settings,
    async run({ config, set }, context, flags) {
      const { tree, locate } = await readSettings(config, set, pathsOf(settings))
      const checked = checkSettings(stage, tree, locate())
      refuseUseless(settings, tree, checked, locate())
      return executeStage(stage, checked, flags, context, command)
    },
  })
  return defineCommand({
    ...{ ranks, name, summary, settings, positionals, examples, notes, further },
    ...(positionals === undefined && { fromFile }),
    flags: flags as z.ZodType<EarlierFlags>,
    check: (tree, locate) => checkSettings(stage, tree, locate),
    run: (checked, context, flags) => executeStage(stage, checked, flags, context, command),
  })
}

/** Runs a stage for a person; where the environment says that this process is one of several ranks, with the others. */
export async function executeStage<T, R>(
  stage: Stage<T, R>,
  settings: T,
  { resume, overwrite }: EarlierFlags,
  { progress }: CommandContext,
  { describe }: Pick<StageCommand<T, R>, 'describe'>,
): Promise<Outcome> {
  const again = stage.earlier?.includes('resume') ? ' with --resume' : ''
  const { result, rank, exitCode } = await asRank(progress, async (ranks, signal) => {
    await requireSameWork(ranks, stage, settings, { resume, overwrite })
    const context = { signal, ranks, progress: titled(progress, { stage: stage.name }), resume, overwrite }
    return await runStage({ run: (given) => stage.run(settings, given) }, context)
  }).catch((error) => {
    // Another rank's disk is as full as one's own.
    const isFull =
      error instanceof DiskFullError || (error instanceof RankError && error.detail.code === DiskFullError.code)
    if (!isFull) throw error
    const hint = `Free some space and run the same command again${again}.`
    throw new (error instanceof DiskFullError ? DiskFullError : RankError)(error.message, {
      ...{ detail: error.detail, hint, cause: error },
    })
  })
  const { interrupted, report, summary, problem } = result
  const text = report !== undefined && describe ? describe(report, settings) : summary === '' ? '' : `${summary}\n`
  const outcome = { text, report: (report as object | undefined) ?? { summary }, problem, isCopy: rank > 0 }
  if (!interrupted) return outcome
  const kept = valueAt(settings, stage.out.setting.split('.'))
  const stopped = `stopped; what was finished is kept in ${kept}; run the same command again${again} to continue`
  return { ...outcome, stopped, exitCode: exitCode ?? 1 }
}

async function requireSameWork<T>(ranks: Joined, stage: Stage<T>, settings: T, flags: EarlierFlags): Promise<void> {
  await requireSame(ranks, 'what they run', { version, stage: stage.name })
  const { setting: out } = stage.out
  await requireSame(ranks, 'the settings', {
    ...identityOf(stage.settings, settings as object, stage.ignores?.(settings)),
    ...flags,
    [out]: valueAt(settings, out.split('.')),
    ...(ranks.size > 1 && (await contentsOf(stage.settings, settings as object))),
  })
}

/** What is read, by its content: each machine may have a copy of its own. */
async function contentsOf(schema: z.ZodType, settings: object): Promise<Record<string, string | null>> {
  const contents: Record<string, string | null> = {}
  for (const path of pathsOf(schema, 'input')) {
    const value = valueAt(settings, path)
    if (typeof value !== 'string') continue
    const about = await stat(value).catch(() => undefined) // the stage says what is wrong with it
    const read = about?.isFile() ? sha256File : about?.isDirectory() ? markFolder : async () => null
    contents[path.join('.')] = await read(value)
  }
  return contents
}
