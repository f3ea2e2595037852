/** What a command is. One file in commands/ per command; `run.ts` lists them. */
import type { ArgumentsCamelCase, Argv } from 'yargs'
import type { Progress } from '../stage/index.js'

export interface CommandContext {
  /** The result, for people or pipes. */
  stdout(text: string): void
  /** The same with colours of ours; what comes from records has been through `forTerminal`. */
  coloured(text: string): void
  /** Everything else. */
  stderr(text: string): void
  /** A reporter for long work, on stderr. */
  progress: Progress
}

/** Runs the command whose arguments were parsed; resolves with the exit code. */
export type Runner = (context: CommandContext) => Promise<number>

export interface Command {
  /** Adds itself to a parser; `select` is told how to run it once its arguments are parsed. */
  attach(parser: Argv, select: (runner: Runner) => void): Argv
}

export interface CommandDefinition<Options> {
  /** yargs' notation, for instance `train <config>`. */
  usage: string
  summary: string
  options(parser: Argv): Argv<Options>
  /** Lines to type, without the program's name, each with what it does. */
  examples?: readonly (readonly [line: string, what: string])[]
  /** Said below the options. */
  notes?: string
  /** Resolves with the exit code; throws a FireError for anything that went wrong. Import heavy modules inside. */
  run(options: ArgumentsCamelCase<Options>, context: CommandContext): Promise<number>
}

export function defineCommand<Options>(definition: CommandDefinition<Options>): Command {
  const { usage, summary, options, run } = definition
  const build = (parser: Argv): Argv<Options> => options(parser).epilogue(closing(definition))
  return {
    attach: (parser, select) =>
      parser.command(usage, summary, build, (parsed) => select((context) => run(parsed, context))),
  }
}

/** Lines to copy stay whole: yargs' own examples break them to fit a column. */
function closing({ examples = [], notes }: Pick<CommandDefinition<never>, 'examples' | 'notes'>): string {
  const lines = examples.map(([line, what]) => `  fire-train ${line}\n      ${what}`)
  return [...(lines.length > 0 ? [['Examples:', ...lines].join('\n')] : []), ...(notes ? [notes] : [])].join('\n\n')
}

/** A command that only holds others, such as `bench gemm`. */
export function defineGroup(name: string, summary: string, commands: readonly Command[]): Command {
  return {
    attach: (parser, select) =>
      parser.command(name, summary, (inner) => {
        for (const command of commands) command.attach(inner, select)
        return inner.demandCommand(1, `Say which: fire-train ${name} <command>`)
      }),
  }
}
