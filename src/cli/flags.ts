/** Flags from a schema of settings, and settings from flags: `endpoint.maxTokens` is `--endpoint-max-tokens`. */
import { resolve } from 'node:path'
import type { Argv } from 'yargs'
import type { z } from 'zod'
import type { Locate } from '../settings/file.js'
import { flagOf, keyOf, type Setting, settingsOf, setValueAt, shapeOf } from '../settings/setting.js'
import type { Tree } from '../settings/source.js'

/** Defaults are shown, not set: what was not given is left to the schema. */
export function addFlags(parser: Argv, schema: z.ZodType, positionals: readonly string[] = []): Argv {
  for (const setting of settingsOf(schema)) {
    const name = flagOf(setting)
    const { choices, required, path } = setting
    const option = {
      type: setting.type,
      choices,
      describe: describe(setting),
      defaultDescription: shownDefault(setting),
    }
    if (positionals.includes(name)) {
      parser.positional(name, {
        choices,
        demandOption: required === 'always',
        describe: option.describe,
        type: 'string',
      })
      continue
    }
    const repeated = setting.type === 'array' ? { nargs: 1, string: true } : {}
    parser.option(name, {
      ...option,
      ...repeated,
      demandOption: required === 'always',
      requiresArg: setting.type !== 'boolean',
    })
    parser.group(name, path.length > 1 ? sectionTitle(schema, path[0]) : 'Settings:')
  }
  return parser
}

function sectionTitle(schema: z.ZodType, key: string): string {
  const about = shapeOf(schema)?.[key]?.meta()?.description
  return `${key[0].toUpperCase()}${key.slice(1)}${about ? ` (${about})` : ''}:`
}

/** The kind of number goes without saying here; a bound on both sides does not. */
function describe({ meta: { description = '' }, range }: Setting): string {
  return range.includes('<') ? `${description} (${range})` : description
}

function shownDefault({ default: value }: Setting): string | undefined {
  const none = value === undefined || value === null || value === '' || (Array.isArray(value) && value.length === 0)
  return none ? undefined : String(value)
}

/** What was given as a tree of settings, relative paths resolved against the working folder. */
export function readFlags(schema: z.ZodType, parsed: Record<string, unknown>): { tree: Tree; locate: Locate } {
  const tree: Tree = {}
  const settings = settingsOf(schema)
  for (const setting of settings) {
    const value = parsed[flagOf(setting)]
    if (value === undefined) continue
    const isPath = setting.meta.path !== undefined && typeof value === 'string' && value !== ''
    setValueAt(tree, setting.path, isPath ? resolve(value) : value)
  }
  return {
    tree,
    locate: (path) => {
      const setting = settings.find((each) => keyOf(each) === path.join('.'))
      return setting && `--${flagOf(setting)}`
    },
  }
}

/** `<config>` and `--set`: what commands take that read a file of settings. */
export function addFile<T>(parser: Argv<T>, describe: string) {
  return parser.positional('config', { type: 'string', demandOption: true, describe }).option('set', {
    type: 'string',
    array: true,
    nargs: 1,
    default: [] as string[],
    describe: 'Override a setting: --set KEY.KEY=VALUE, for instance optimizer.lr=1e-5 (repeatable)',
  })
}
