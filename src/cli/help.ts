/** What `--help` shows, in any width: words, flags, paths and lines to copy are never broken. */
import type { z } from 'zod'
import { conditionOf } from '../settings/needs.js'
import { flagOf, type Setting, shapeOf } from '../settings/setting.js'
import { type Option, optionsOf } from './arguments.js'
import type { Command, Group } from './command.js'

/** Names stand left of their descriptions up to this width. */
const widestName = 34

/** Where less is left for descriptions, they stand below. */
const leastColumn = 30

const about = 'Fine-grained, on-policy preference optimization for medical vision-language models.'

const exitCodes =
  'Exit codes: 0 success; 1 the work failed, or a check did not pass; 2 the command line or the settings are wrong; ' +
  '130 or 143 stopped by SIGINT or SIGTERM, with what was done kept.'

export function helpOfAll(commands: readonly (Command | Group)[], width: number): string {
  const rows = commands.map((each): Row => [`fire-train ${usageOf(each)}`, each.summary])
  const common = optionsOf({ schemas: [], positionals: [] }).map((each) => rowOf(each))
  const version: Row = ['--version', 'Show the version']
  return page([
    'fire-train <command>',
    wrap(about, width),
    section('Commands', rows, width),
    section('Options', [...common, version], width),
    wrap('fire-train <command> --help shows the options of a command.', width),
    wrap(exitCodes, width),
  ])
}

export function helpOfGroup({ name, summary, commands }: Group, width: number): string {
  const rows = commands.map((each): Row => [`fire-train ${name} ${usageOf(each)}`, each.summary])
  return page([`fire-train ${name} <command>`, wrap(summary, width), section('Commands', rows, width)])
}

/** @param title the name of the command, with that of its group before it. */
export function helpOfCommand(command: Command, title: string, width: number): string {
  const { schemas, positionals, summary, examples, notes, further, fromFile } = command
  const options = optionsOf(command)
  const rest = options.filter(({ positional }) => !positional)
  const places = positionals.map((name) => options.find((option) => option.name === name) as Option)
  const settings = rest.filter(({ schema, setting }) => schema === 0 && setting.path.length === 1)
  const nested = rest.filter(({ schema, setting }) => schema === 0 && setting.path.length > 1)
  const keys = [...new Set(nested.map(({ setting }) => setting.path[0]))]
  const others = rest.filter(({ schema }) => schema !== 0)
  const row = (option: Option): Row => rowOf(option, positionals)
  return page([
    `fire-train ${[title, ...places.map(placeholderOf)].join(' ')}`,
    wrap(summary, width),
    section(
      'Commands',
      (further ?? []).map((each): Row => [`fire-train ${title} ${usageOf(each)}`, each.summary]),
      width,
    ),
    section('Arguments', places.map(row), width),
    fromFile ? section('In place of flags', optionsOf(fromFile).filter(isOfFile).map(row), width) : '',
    section('Settings', settings.map(row), width),
    ...keys.map((key) => {
      const inside = nested.filter(({ setting }) => setting.path[0] === key)
      return section(titleOf(schemas[0], key), inside.map(row), width)
    }),
    section('Options', others.map(row), width),
    examples.length === 0 ? '' : ['Examples:', ...examples.flatMap((each) => example(each, width))].join('\n'),
    wrap(notes ?? '', width),
  ])
}

/** The settings file and what is laid over it. */
const isOfFile = ({ schema }: Option): boolean => schema === 0

type Row = readonly [name: string, text: string]

const page = (parts: readonly string[]): string => `${parts.filter((part) => part !== '').join('\n\n')}\n`

function usageOf(each: Command | Group): string {
  if ('commands' in each) return each.name
  const options = optionsOf(each)
  return [each.name, ...each.positionals.map((name) => placeholderOf(options.find((one) => one.name === name)))].join(
    ' ',
  )
}

/** `<source>`, `[source]` where it may be left out, `<files..>` where there may be several. */
export function placeholderOf(option: Option | undefined): string {
  const { name, setting } = option as Option
  const inside = setting.type === 'array' ? `${name}..` : name
  return setting.required === 'always' ? `<${inside}>` : `[${inside}]`
}

function titleOf(schema: z.ZodType, key: string): string {
  const said = shapeOf(schema)?.[key]?.meta()?.description
  return `${key[0].toUpperCase()}${key.slice(1)}${said ? `: ${said[0].toLowerCase()}${said.slice(1)}` : ''}`
}

function rowOf(option: Option, positionals: readonly string[] = []): Row {
  const { name, setting, positional } = option
  const flag = name === 'help' ? '-h, --help' : `--${name}`
  return [positional ? name : `${flag}${formOf(setting)}`, textOf(option, positionals)]
}

function formOf({ type, meta }: Setting): string {
  if (type === 'boolean') return ''
  return ` ${type === 'number' ? 'N' : meta.path ? 'PATH' : 'TEXT'}`
}

/** Description, then what it may be and what it is when not given. A bound on one side goes without saying. */
function textOf({ setting }: Option, positionals: readonly string[]): string {
  const { meta, choices, range, required, default: value } = setting
  const none = value === undefined || value === null || value === '' || value === false || String(value) === ''
  const facts = [
    meta.unit,
    choices?.join(', '),
    range.includes('<') ? range : undefined,
    required === 'always' ? 'required' : undefined,
    conditionOf(setting, (each) => (positionals.includes(flagOf(each)) ? `<${flagOf(each)}>` : `--${flagOf(each)}`)),
    none ? undefined : `default: ${value === true ? 'on' : value}`,
  ].filter((fact) => fact !== undefined)
  return `${meta.description ?? ''}${facts.length > 0 ? ` (${facts.join('; ')})` : ''}`
}

function section(title: string, rows: readonly Row[], width: number): string {
  if (rows.length === 0) return ''
  const column = Math.min(widestName, Math.max(...rows.map(([name]) => name.length))) + 4
  const isBeside = width - column >= leastColumn
  const indent = isBeside ? column : 6
  const lines = rows.flatMap(([name, text]) => {
    const wrapped = wrapLines(text, width - indent).map((line) => `${' '.repeat(indent)}${line}`)
    if (!isBeside || name.length + 4 > column || wrapped.length === 0) return [`  ${name}`, ...wrapped]
    return [`  ${name.padEnd(column - 2)}${wrapped[0].trimStart()}`, ...wrapped.slice(1)]
  })
  return [wrap(`${title}:`, width), ...lines].join('\n')
}

function example([line, what]: readonly [string, string], width: number): string[] {
  return [...command(`fire-train ${line}`, width), ...wrapLines(what, width - 6).map((each) => `      ${each}`)]
}

/** A line to copy: where it is too long it goes on below, as a shell reads it. */
function command(line: string, width: number): string[] {
  const lines: string[] = []
  for (const word of line.match(/(?:"[^"]*"|'[^']*'|\S)+/g) ?? []) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width - 2) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(lines.length === 0 ? `  ${word}` : `    ${word}`)
  }
  return lines.map((each, index) => (index < lines.length - 1 ? `${each} \\` : each))
}

const wrap = (text: string, width: number): string => wrapLines(text, width).join('\n')

/** A word longer than the width has a line of its own. */
function wrapLines(text: string, width: number): string[] {
  const lines: string[] = []
  for (const word of text.split(/\s+/).filter((each) => each !== '')) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}
