/** Parses the command line, runs one command and turns whatever happens into an exit code. */
import yargs from 'yargs'
import { ArgumentError, ConfigError, FireError, fileError, InternalError, reasonOf } from '../errors.js'
import { forTerminal } from '../terminal.js'
import { version } from '../version.js'
import type { Command, CommandContext, Runner } from './command.js'
import { bench } from './commands/bench.js'
import { corrupt } from './commands/corrupt.js'
import { demo } from './commands/demo.js'
import { doctor } from './commands/doctor.js'
import { evaluate } from './commands/evaluate.js'
import { generate } from './commands/generate.js'
import { importCommand } from './commands/import.js'
import { inspect } from './commands/inspect.js'
import { merge } from './commands/merge.js'
import { pairs } from './commands/pairs.js'
import { plan } from './commands/plan.js'
import { pull } from './commands/pull.js'
import { report } from './commands/report.js'
import { run as runCommand } from './commands/run.js'
import { sample } from './commands/sample.js'
import { train } from './commands/train.js'
import { verify } from './commands/verify.js'
import { createProgress } from './progress.js'

/** In the order `--help` shows them. */
const commands: readonly Command[] = [
  demo,
  pull,
  runCommand,
  importCommand,
  sample,
  pairs,
  corrupt,
  inspect,
  plan,
  train,
  evaluate,
  report,
  generate,
  merge,
  verify,
  bench,
  doctor,
]

const exitCodes = {
  success: 0,
  /** The work failed, or a check it was asked for did not pass. */
  failure: 1,
  /** The command line or the configuration is wrong; nothing was started. */
  usage: 2,
} as const

export interface RunIo {
  stdout(text: string): void
  stderr(text: string): void
}

const processIo: RunIo = {
  stdout: (text) => process.stdout.write(text),
  stderr: (text) => process.stderr.write(text),
}

/** @param argv the arguments after the program's name. */
export async function run(argv: string[], given: RunIo = processIo): Promise<number> {
  const io: RunIo = {
    stdout: (text) => given.stdout(forTerminal(text)),
    stderr: (text) => given.stderr(forTerminal(text)),
  }
  const debug = argv.includes('--debug')
  let runner: Runner | undefined
  let printed = ''
  try {
    await createParser((selected) => {
      runner = selected
    }).parseAsync(argv, {}, (_error: unknown, _parsed: unknown, output: string) => {
      printed = output
    })
  } catch (error) {
    io.stderr(`${reasonOf(error)}\nRun fire-train --help to see what there is.\n`)
    return exitCodes.usage
  }
  if (!runner) {
    io.stdout(`${printed}\n`)
    return exitCodes.success
  }
  const coloured = (text: string): void => given.stdout(text)
  const context: CommandContext = { ...io, coloured, progress: createProgress() }
  try {
    return await runner(context)
  } catch (error) {
    context.progress.end('failed')
    io.stderr(describeError(error, debug))
    return error instanceof ConfigError || error instanceof ArgumentError ? exitCodes.usage : exitCodes.failure
  }
}

function createParser(select: (runner: Runner) => void): ReturnType<typeof yargs> {
  const parser = yargs()
    .scriptName('fire-train')
    .usage('$0 <command>\n\nFine-grained, on-policy preference optimization for medical vision-language models.')
    .option('debug', { type: 'boolean', default: false, global: true, describe: 'Print the stack of an error' })
    .version(version)
    .alias('h', 'help')
    .strict()
    .recommendCommands()
    .demandCommand(1, 'Say what to do: fire-train <command>')
    .epilogue(
      'Exit codes: 0 success, 1 failure or a check that did not pass, 2 wrong arguments or configuration,\n' +
        '130 / 143 / 129 / 138 stopped by SIGINT / SIGTERM / SIGHUP / SIGUSR1 after saving.',
    )
    .wrap(Math.min(110, process.stdout.columns ?? 110))
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? new Error(message)
    })
  for (const command of commands) command.attach(parser, select)
  return parser
}

/** One clear message with its code and hint; the stack only when asked for. */
function describeError(error: unknown, debug: boolean): string {
  const { code, message, hint } = typed(error)
  const stack = debug ? stacks(error).join('\ncaused by ') : ''
  return [`error ${code}: ${message}`, ...(hint ? [`hint: ${hint}`] : []), ...(stack ? ['', stack] : []), ''].join('\n')
}

/** What no layer has typed is a failure of the system, or a defect. */
function typed(error: unknown): FireError {
  if (error instanceof FireError) return error
  const { syscall, path = '' } = (error ?? {}) as NodeJS.ErrnoException
  const known = syscall === undefined ? error : fileError(error, syscall, path)
  return known instanceof FireError ? known : new InternalError(reasonOf(error))
}

function stacks(error: unknown): string[] {
  return error instanceof Error ? [error.stack ?? error.message, ...stacks(error.cause)] : []
}
