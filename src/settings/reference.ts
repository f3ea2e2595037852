/** Schemas of settings as a page for people and as JSON Schema for editors. */
import { z } from 'zod'
import { conditionOf } from './needs.js'
import { keyOf, type Setting, settingsOf } from './setting.js'

/** What a setting is called in a table and in the conditions of others. */
type NameOf = (setting: Pick<Setting, 'path'>) => string

/** A Markdown table, one row a setting. @param flagOf the name on a command line, where there is one. */
export function settingsTable(schema: z.ZodType, flagOf?: NameOf): string {
  const names = { setting: keyOf, ...(flagOf && { flag: flagOf }) }
  return table(settingsOf(schema), names, keyOf)
}

/** The same of what is given on a command line alone: nothing has a key in a file. */
export const flagsTable = (settings: readonly Setting[], flagOf: NameOf): string =>
  table(settings, { flag: flagOf }, flagOf)

function table(settings: readonly Setting[], names: Record<string, NameOf>, nameOf: NameOf): string {
  const columns: [string, (setting: Setting) => string][] = [
    ...Object.entries(names).map(([title, name]): [string, (setting: Setting) => string] => [
      title,
      (setting) => code(name(setting)),
    ]),
    ['value', kindOf],
    ['unit', ({ meta }) => meta.unit ?? ''],
    ['default', defaultOf],
    ['meaning', (setting) => meaningOf(setting, nameOf)],
  ]
  const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [
    row(columns.map(([name]) => name)),
    row(columns.map(() => '---')),
    ...settings.map((setting) => row(columns.map(([, cell]) => cell(setting).replaceAll('|', '\\|')))),
  ].join('\n')
}

const code = (text: string): string => `\`${text}\``

function kindOf({ type, choices, range, meta }: Setting): string {
  if (choices) return `${type === 'array' ? 'list of ' : ''}${choices.map(code).join(', ')}`
  if (meta.form) return meta.form
  if (meta.path) return 'path'
  return type === 'number' ? range : { string: 'text', boolean: 'true or false', array: 'list of texts' }[type]
}

function defaultOf({ required, default: value }: Setting): string {
  if (required) return required === 'always' ? 'required' : 'required with its section'
  return value === undefined || value === null ? '' : code(JSON.stringify(value))
}

function meaningOf(setting: Setting, nameOf: NameOf): string {
  const { description, free } = setting.meta
  const condition = conditionOf(setting, (each) => code(nameOf(each)))
  // What stands in angle brackets would be taken for HTML.
  return `${description?.replaceAll('<', '\\<')}${condition ? ` (${condition})` : ''}${free ? '. Changes no result' : ''}`
}

/** For editors: completion and checks in a YAML file. Keys that only this code reads are left out. */
export function jsonSchema(schema: z.ZodType, title: string): object {
  const own = ['path', 'secret', 'free', 'form', 'needs', 'rulesOut', 'unit']
  const { $schema, ...rest } = z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'any',
    override: ({ jsonSchema: json }) => {
      const { description, unit } = json as z.GlobalMeta
      if (unit !== undefined) json.description = `${description} (${unit})`
      for (const key of own) delete (json as Record<string, unknown>)[key]
    },
  })
  return { $schema, title, ...rest }
}
