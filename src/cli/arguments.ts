/** The words of a command line, read by the settings of a command: `endpoint.maxTokens` is `--endpoint-max-tokens`. */
import { resolve } from 'node:path'
import { z } from 'zod'
import { ArgumentError } from '../errors.js'
import { nearest } from '../options.js'
import { checkTree, type Locate } from '../settings/file.js'
import { flagOf, keyOf, type Setting, settingsOf, setValueAt } from '../settings/setting.js'
import type { Tree } from '../settings/source.js'
import type { Command } from './command.js'
import { logForms } from './progress.js'

/** What every command takes. */
export const commonFlags = z.strictObject({
  json: z.boolean().default(false).meta({ description: 'Print the result as one JSON object' }),
  quiet: z.boolean().default(false).meta({ description: 'Print the result and errors only' }),
  log: z
    .enum(logForms)
    .default('text')
    .meta({ description: 'Progress and errors on stderr: for people, or one JSON object a line' }),
  debug: z.boolean().default(false).meta({ description: 'Print the stack of an error' }),
  help: z.boolean().default(false).meta({ description: 'Show this help' }),
})

export type CommonFlags = z.output<typeof commonFlags>

/** A setting with the schema of the command that it belongs to. */
export interface Option {
  name: string
  setting: Setting
  /** Place in `schemas` of the command; -1 of what every command takes. */
  schema: number
  positional: boolean
}

export function optionsOf({ schemas, positionals }: Pick<Command, 'schemas' | 'positionals'>): Option[] {
  return [...schemas, commonFlags].flatMap((schema, index) =>
    settingsOf(schema).map((setting) => {
      const name = flagOf(setting)
      return { name, setting, schema: index === schemas.length ? -1 : index, positional: positionals.includes(name) }
    }),
  )
}

/** The first word that is no flag and no flag's value, and what stands around it. */
export function split(words: readonly string[]): { name: string | undefined; before: string[]; after: string[] } {
  const at = words.findIndex((word, index) => !word.startsWith('-') && words[index - 1] !== '--log')
  return at < 0
    ? { name: undefined, before: [...words], after: [] }
    : { name: words[at], before: words.slice(0, at), after: words.slice(at + 1) }
}

export interface Given {
  common: CommonFlags
  /** One tree for each schema of the command; relative paths are resolved against the working folder. */
  trees: Tree[]
  /** Settings are called by their flags. */
  locate: Locate
}

/**
 * @throws {ArgumentError} for a word that is no option or has no place, a value that is missing, and an option given twice.
 */
export function readArguments(words: readonly string[], command: Command): Given {
  const options = optionsOf(command)
  const given = new Map<Option, unknown>()
  const places = command.positionals.map((name) => options.find((option) => option.name === name) as Option)
  const queue = [...words]
  while (queue.length > 0) {
    const word = queue.shift() as string
    if (word === '--') for (const rest of queue.splice(0)) place(rest)
    else if (/^-([^\d.]|$)/.test(word) && word !== '-') take(word)
    else place(word)
  }
  const common = checkTree(commonFlags, treeOf(entries(-1)), locator(options))
  if (!common.help) requireAll(command, options, given)
  return { common, trees: command.schemas.map((_, index) => treeOf(entries(index))), locate: locator(options) }

  function entries(schema: number): [string, unknown][] {
    return [...given].filter(([each]) => each.schema === schema).map(([each, value]) => [keyOf(each.setting), value])
  }

  function place(word: string): void {
    const option = places.find((each) => !given.has(each) || each.setting.type === 'array')
    if (!option) throw new ArgumentError(`Unexpected argument ${quoted(word)}: ${takes(command)}`)
    set(option, word)
  }

  function take(word: string): void {
    const [, dashed, attached] = /^([^=]*)(?:=([\s\S]*))?$/.exec(word === '-h' ? '--help' : word) as RegExpExecArray
    const name = dashed.replace(/^--/, '')
    const known = dashed.startsWith('--') ? options.filter((option) => !option.positional) : []
    const option = known.find((each) => each.name === name)
    const negated = known.find((each) => `no-${each.name}` === name && each.setting.type === 'boolean')
    if (option) set(option, attached ?? next(option, dashed))
    else if (negated && attached === undefined) set(negated, 'false', dashed)
    else if (negated) throw new ArgumentError(`${dashed} takes no value`)
    else throw unknownOption(dashed, command, options)
  }

  /** The value of an option that has none attached: the word that follows. */
  function next({ setting }: Option, dashed: string): string {
    if (setting.type === 'boolean') return 'true'
    const [word] = queue
    if (word !== undefined && !word.startsWith('--')) return queue.shift() as string
    const example = word === undefined ? '' : `; write ${dashed}=${cut(word)} where the value begins with --`
    throw new ArgumentError(`${dashed} needs a value${example}`)
  }

  function set(option: Option, text: string, said = `--${option.name}`): void {
    const value = readValue(option, text, said)
    if (option.setting.type === 'array') {
      const list = (given.get(option) ?? []) as unknown[]
      given.set(option, [...list, value])
    } else if (given.has(option) && given.get(option) !== value) {
      throw new ArgumentError(`${said} is given twice, with different values`)
    } else given.set(option, value)
  }
}

/** What a text stands for; what it may be is the schema's to say. */
function readValue({ setting }: Option, text: string, said: string): unknown {
  if (text.includes('\0')) throw new ArgumentError(`${said} holds a NUL character`)
  if (setting.type === 'boolean') {
    if (text === 'true' || text === 'false') return text === 'true'
    throw new ArgumentError(`${said} is on or off: it takes no value ${quoted(text)}`)
  }
  if (setting.type === 'number') return text.trim() === '' ? text : Number.isNaN(Number(text)) ? text : Number(text)
  return setting.meta.path !== undefined && text !== '' ? resolve(text) : text
}

function treeOf(entries: readonly [string, unknown][]): Tree {
  const tree: Tree = {}
  for (const [key, value] of entries) setValueAt(tree, key.split('.'), value)
  return tree
}

function locator(options: readonly Option[]): Locate {
  return (path) => {
    const key = path.join('.')
    // A section is called by its flag without a name of its own: the address.
    const option = options.find(({ setting }) => [key, `${key}.url`].includes(keyOf(setting)))
    return option && (option.positional ? `<${option.name}>` : `--${option.name}`)
  }
}

function requireAll(command: Command, options: readonly Option[], given: ReadonlyMap<Option, unknown>): void {
  for (const [one, other] of command.exclusive) {
    const isGiven = (name: string): boolean => [...given.keys()].some((option) => option.name === name)
    if (isGiven(one) && isGiven(other)) throw new ArgumentError(`--${one} and --${other} rule each other out`)
  }
  const missing = options.filter((option) => option.setting.required === 'always' && !given.has(option))
  if (missing.length === 0) return
  const names = missing.map(({ name, positional }) => (positional ? `<${name}>` : `--${name}`))
  throw new ArgumentError(`${command.name} needs ${names.join(', ')}`)
}

/** `import takes <kind> [source]`. */
function takes({ name, positionals }: Command): string {
  const places = positionals.map((each) => `<${each}>`).join(' ')
  return `${name} takes ${places === '' ? 'options only' : `${places} and options`}`
}

function unknownOption(dashed: string, command: Command, options: readonly Option[]): ArgumentError {
  const name = dashed.replace(/^-+/, '')
  const known = options.filter(({ positional }) => !positional).map((option) => option.name)
  const near = nearest(name.replace(/^no-/, ''), known)
  const place = command.positionals.find((each) => each === name)
  const advice = near
    ? `; did you mean --${near}?`
    : place
      ? `; ${place} is given without a flag: ${takes(command)}`
      : inFile(name, command.file)
  return new ArgumentError(`Unknown option ${cut(dashed)}${advice}`)
}

/** What is a key of the file is set there, or by `--set`. */
function inFile(name: string, file: z.ZodType | undefined): string {
  if (!file) return ''
  const keys = settingsOf(file)
  const near =
    nearest(name, keys.map(flagOf)) ??
    nearest(
      name,
      keys.map(({ path }) => path.at(-1) as string),
    )
  const key = keys.find((each) => flagOf(each) === near || each.path.at(-1) === near)
  return `; settings of the file are given as --set ${key ? keyOf(key) : 'KEY'}=VALUE`
}

export const quoted = (text: string): string => JSON.stringify(cut(text))

const cut = (text: string): string => (text.length > 60 ? `${text.slice(0, 59)}…` : text)
