/** Reads the command line, runs one command and turns whatever happens into an exit code. */
import {
  ArgumentError,
  addressSpaceError,
  ConfigError,
  FireError,
  fileError,
  InternalError,
  reasonOf,
} from '../errors.js'
import { nearest } from '../options.js'
import { rankIn } from '../ranks/environment.js'
import { silent } from '../stage/index.js'
import { forTerminal } from '../terminal.js'
import { version } from '../version.js'
import { type CommonFlags, commonFlags, quoted, readArguments, split } from './arguments.js'
import type { Command, CommandContext, Group, Outcome } from './command.js'
import { bench } from './commands/bench.js'
import { build } from './commands/build.js'
import { corrupt } from './commands/corrupt.js'
import { demo } from './commands/demo.js'
import { doctor } from './commands/doctor.js'
import { evaluate } from './commands/evaluate.js'
import { generate } from './commands/generate.js'
import { importCommand } from './commands/import.js'
import { inspect } from './commands/inspect.js'
import { launch } from './commands/launch.js'
import { merge } from './commands/merge.js'
import { pairs } from './commands/pairs.js'
import { plan } from './commands/plan.js'
import { pull } from './commands/pull.js'
import { push } from './commands/push.js'
import { report } from './commands/report.js'
import { run as runCommand } from './commands/run.js'
import { sample } from './commands/sample.js'
import { study } from './commands/study.js'
import { train } from './commands/train.js'
import { verify } from './commands/verify.js'
import { helpOfAll, helpOfCommand, helpOfGroup } from './help.js'
import { logLine } from './json-progress.js'
import { createProgress, ofRank } from './progress.js'
import { refuseRanks } from './ranks.js'
import { inWordsOf } from './words.js'

/** In the order `--help` shows them. */
export const commands: readonly (Command | Group)[] = [
  demo,
  pull,
  push,
  runCommand,
  importCommand,
  sample,
  pairs,
  corrupt,
  inspect,
  plan,
  train,
  launch,
  evaluate,
  report,
  study,
  generate,
  merge,
  verify,
  bench,
  doctor,
  build,
]

const exitCodes = {
  success: 0,
  /** The work failed, or a check it was asked for did not pass. */
  failure: 1,
  /** The command line or the settings are wrong. */
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
  let command: Command | undefined
  // Read by hand: the words may be wrong in a place that nobody gets to.
  const flags = argv.slice(0, argv.includes('--') ? argv.indexOf('--') : undefined)
  const has = (flag: string): boolean => flags.includes(flag)
  const isJson = flags.some((word, index) => word === '--log=json' || (word === 'json' && flags[index - 1] === '--log'))
  const common: CommonFlags = {
    ...{ json: has('--json'), quiet: has('--quiet'), debug: has('--debug'), help: false },
    log: isJson ? 'json' : 'text',
  }
  const rank = rankIn(process.env)
  const progress = common.quiet ? silent : createProgress(common.log, process.stderr, process.env, rank)
  const context: CommandContext = {
    stdout: io.stdout,
    note: (text) => !common.quiet && rank === 0 && (isJson ? progress.log(text) : io.stderr(text)),
    progress,
    json: common.json,
  }
  const fail = (error: unknown, report?: object): number => {
    progress.end('failed')
    const found = typed(error)
    if (common.json && rank === 0)
      io.stdout(`${jsonOf({ ...report, error: { ...inWordsOf(command, found), detail: found.detail } })}\n`)
    io.stderr(describeError(error, found, command, common, rank))
    return found instanceof ConfigError || found instanceof ArgumentError ? exitCodes.usage : exitCodes.failure
  }
  try {
    const chosen = choose(argv)
    if ('text' in chosen) {
      io.stdout(chosen.text)
      return exitCodes.success
    }
    command = chosen.command
    const { common: said, trees, locate } = readArguments(chosen.words, command)
    if (said.help) {
      io.stdout(helpOfCommand(command, chosen.title, width()))
      return exitCodes.success
    }
    if (!command.ranks) refuseRanks(chosen.title)
    return end(await command.prepare(trees, locate)(context))
  } catch (error) {
    return fail(error)
  }

  function end({ text, coloured, report, problem, stopped, exitCode, isCopy }: Outcome): number {
    progress.end(stopped === undefined ? undefined : 'stopped')
    if (isCopy) return exitCode ?? (problem ? exitCodes.failure : exitCodes.success)
    const failed = (said?: object): number => {
      const code = fail(problem, said)
      return exitCode ?? code
    }
    if (problem && common.json) return failed(report)
    if (common.json) io.stdout(`${jsonOf(stopped === undefined ? report : { ...report, interrupted: true })}\n`)
    else if (coloured) given.stdout(text)
    else io.stdout(text)
    if (problem) return failed()
    if (stopped !== undefined) io.stderr(isJson ? logLine('stopped', { message: stopped }) : `${stopped}\n`)
    return exitCode ?? exitCodes.success
  }
}

interface Chosen {
  command: Command
  /** Its name, with that of its group before it. */
  title: string
  /** What follows it, and the common flags that came before. */
  words: string[]
}

/** Which command the words name, or the text that they ask for. */
function choose(argv: readonly string[]): Chosen | { text: string } {
  const { name, before, after } = split(argv)
  const wantsHelp = before.some((word) => word === '--help' || word === '-h')
  if (name === undefined && (before.includes('--version') || before.includes('-v'))) return { text: `${version}\n` }
  if (name === undefined && wantsHelp) return { text: helpOfAll(commands, width()) }
  checkCommon(before)
  if (name === undefined) throw new ArgumentError('Say what to do: fire-train <command>')
  if (name === 'help') return choose([...after, '--help'])
  const found = byName(commands, name, 'fire-train')
  const inner = split(after)
  if (!('commands' in found)) {
    const further = found.further?.find((each) => each.name === inner.name)
    const isFile = /\.ya?ml$/i.test(inner.name ?? '')
    const command = isFile && found.fromFile ? found.fromFile : found
    if (!further) return { command, title: found.name, words: [...before, ...after] }
    return {
      command: further,
      title: `${found.name} ${further.name}`,
      words: [...before, ...inner.before, ...inner.after],
    }
  }
  if (inner.name === undefined && (wantsHelp || inner.before.some((word) => word === '--help' || word === '-h'))) {
    return { text: helpOfGroup(found, width()) }
  }
  if (inner.name === undefined) throw new ArgumentError(`Say which: fire-train ${found.name} <command>`)
  const command = byName(found.commands, inner.name, `fire-train ${found.name}`) as Command
  return { command, title: `${found.name} ${command.name}`, words: [...before, ...inner.before, ...inner.after] }
}

function byName<T extends { name: string }>(known: readonly T[], name: string, before: string): T {
  const found = known.find((each) => each.name === name)
  if (found) return found
  const names = known.map((each) => each.name)
  const near = nearest(name, names)
  const advice = near ? `did you mean ${near}?` : `the commands are ${names.join(', ')}`
  throw new ArgumentError(`Unknown command ${quoted(name)} of ${before}; ${advice}`)
}

function checkCommon(words: readonly string[]): void {
  const known = [...Object.keys(commonFlags.shape), 'version']
  for (const [index, word] of words.entries()) {
    if (words[index - 1] === '--log') continue
    const name = word.replace(/^-+|=.*$/g, '')
    if (word === '-h' || (word.startsWith('--') && known.includes(name))) continue
    const near = nearest(name, known)
    throw new ArgumentError(
      `Unknown option ${quoted(word)}; ${near ? `did you mean --${near}?` : 'options follow the command'}`,
    )
  }
}

/** Of the terminal; 80 where there is none. Wide lines are hard to read. */
function width(): number {
  const columns = process.stdout.columns ?? Number(process.env.COLUMNS)
  return columns > 0 ? Math.min(110, Math.max(20, columns)) : 80
}

/** One clear message with its code and hint; the stack only when asked for. */
function describeError(
  error: unknown,
  found: FireError,
  command: Command | undefined,
  { debug, log }: CommonFlags,
  rank: number,
): string {
  const { code, message, hint } = inWordsOf(command, found)
  const isUsage = found instanceof ArgumentError && !(found instanceof ConfigError) && code === ArgumentError.code
  const help = isUsage
    ? `Run fire-train ${command ? `${titleOf(command)} ` : ''}--help to see what there is.`
    : undefined
  const stack = debug ? stacks(error).join('\ncaused by ') : ''
  const advice = hint ?? help
  if (log === 'json')
    return logLine('error', { ...(rank > 0 && { rank }), code, message, hint: advice, ...(debug && { stack }) })
  const lines = [`error ${code}: ${message}`, ...(advice ? [`hint: ${advice}`] : []), ...(stack ? ['', stack] : []), '']
  return ofRank(rank, lines.join('\n'))
}

function titleOf(command: Command): string {
  const group = commands.find((each) => ('commands' in each ? each.commands : each.further)?.includes(command))
  return group ? `${group.name} ${command.name}` : command.name
}

/** Counts of 64 bits are numbers too; what refers to itself is left out. */
function jsonOf(value: object): string {
  const around: unknown[] = []
  return JSON.stringify(value, function (this: unknown, _key, each: unknown) {
    while (around.length > 0 && around.at(-1) !== this) around.pop()
    if (typeof each === 'bigint') return Number(each)
    if (typeof each !== 'object' || each === null) return each
    if (around.includes(each)) return undefined
    around.push(each)
    return each
  })
}

/** What no layer has typed is a failure of the system, or a defect. */
function typed(error: unknown): FireError {
  if (error instanceof FireError) return error
  const { syscall, path = '' } = (error ?? {}) as NodeJS.ErrnoException
  const known = syscall === undefined ? error : fileError(error, syscall, path)
  return known instanceof FireError ? known : (addressSpaceError(error) ?? new InternalError(reasonOf(error)))
}

function stacks(error: unknown): string[] {
  return error instanceof Error ? [error.stack ?? error.message, ...stacks(error.cause)] : []
}
