/** What a command is. One file in commands/ per command; `run.ts` lists them. */
import type { z } from 'zod'
import type { FireError } from '../errors.js'
import { checkTree, type Locate, refuseUseless } from '../settings/file.js'
import type { Tree } from '../settings/source.js'
import type { Progress } from '../stage/index.js'

export interface CommandContext {
  /** The result as it comes; what is known only at the end is the outcome's. */
  stdout(text: string): void
  /** What a person may want to read meanwhile; nothing with `--quiet`. */
  note(text: string): void
  /** A reporter for long work, on stderr. */
  progress: Progress
  /** The result is wanted as one JSON object: nothing else may go to stdout. */
  json: boolean
}

/** What a command came to. */
export interface Outcome {
  /** For people; with `--json` the report is printed instead. */
  text: string
  /** The text has colours of ours, and what it has of records has been through `forTerminal`. */
  coloured?: boolean
  report: object
  /** Default: 0, or 1 with a problem. */
  exitCode?: number
  /** The work was done, and its result is not to be built on. */
  problem?: FireError
  /** Another rank has the same outcome and shows it. */
  isCopy?: boolean
  /** The last line for whoever stopped it: what is kept, and how to go on. */
  stopped?: string
}

/** A command whose arguments are read: how to run it. */
export type Runner = (context: CommandContext) => Promise<Outcome>

/**
 * What several ranks make of a command: its work together, or each the whole of it, which then writes nothing. Others are refused:
 * they would write to one output.
 */
export type InRanks = 'together' | 'each'

export interface Command {
  name: string
  summary: string
  /** Settings first, then flags that are none of them. */
  schemas: readonly z.ZodType[]
  /** Settings that are given by their place, in order; the last may be a list. */
  positionals: readonly string[]
  examples: readonly (readonly [line: string, what: string])[]
  notes?: string
  /** Flags that rule each other out. */
  exclusive: readonly (readonly [string, string])[]
  /** The schema of the file that `--set` changes. */
  file?: z.ZodType
  /** Commands whose name follows this one's: `evaluate rejudge`. */
  further?: readonly Command[]
  /** The same with all settings in a file: `evaluate eval.yaml`. */
  fromFile?: Command
  ranks?: InRanks
  /** @param trees what was given, one tree a schema. @throws {ConfigError} listing every mistake. */
  prepare(trees: readonly Tree[], locate: Locate): Runner
}

/** A command that only holds others, such as `bench gemm`. */
export interface Group {
  name: string
  summary: string
  commands: readonly Command[]
}

export interface CommandDefinition<S extends z.ZodType, F extends z.ZodType, T> {
  name: string
  summary: string
  settings: S
  /** Flags beside the settings. */
  flags?: F
  positionals?: readonly string[]
  /** Lines to type, without the program's name, each with what it does. */
  examples?: readonly (readonly [line: string, what: string])[]
  /** Said below the options. */
  notes?: string
  exclusive?: readonly (readonly [string, string])[]
  file?: z.ZodType
  further?: readonly Command[]
  fromFile?: Command
  ranks?: InRanks
  /** Checks beyond the schema. */
  check?(tree: Tree, locate: Locate): T
  /** Throws a FireError for anything that went wrong. Import heavy modules inside. */
  run(settings: T, context: CommandContext, flags: z.output<F>): Promise<Outcome>
}

export function defineCommand<S extends z.ZodType, F extends z.ZodType, T = z.output<S>>(
  definition: CommandDefinition<S, F, T>,
): Command {
  const { settings, flags, check, run, positionals = [], examples = [], exclusive = [], ...rest } = definition
  return {
    ...rest,
    schemas: flags ? [settings, flags] : [settings],
    positionals,
    examples,
    exclusive,
    prepare: ([tree, given], locate) => {
      const checked = check ? check(tree, locate) : (checkTree(settings, tree, locate) as T)
      const checkedFlags = flags ? checkTree(flags, given, locate) : ({} as z.output<F>)
      refuseUseless(settings, tree, checked, locate)
      if (flags) refuseUseless(flags, given, checkedFlags, locate)
      return (context) => run(checked, context, checkedFlags)
    },
  }
}
