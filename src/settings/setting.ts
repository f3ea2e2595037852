/**
 * What a setting is. A schema says type, range, choices and default; its `meta` says the rest. Flags, sections of a
 * pipeline's file, the identity of a stage, the reference page and the JSON Schema are all read from here.
 */
import { z } from 'zod'
import { isTree, type Tree } from './source.js'

declare module 'zod' {
  interface GlobalMeta {
    /**
     * The value is a path. `input`: its content decides the result. `root`: names are looked up below it, what they name is
     * checked by its hash. `output`: it is written.
     */
    path?: 'input' | 'root' | 'output'
    /** It may hold a password: messages never show it. */
    secret?: true
    /** No result depends on it, so a change does not make a stage run again. */
    free?: true
    /**
     * Keys beside it of which one must be given for it to have an effect; `key: value` where it must have (or hold) this value.
     */
    needs?: string | readonly string[]
    /** What leaves it without an effect, in the same form. */
    rulesOut?: string
    /** Of a number: what it counts or measures. Seeds, ratios and coefficients have none. */
    unit?: string
    /** What `describe` cannot say of a checked text: how it is written. */
    form?: string
  }
}

/** One leaf of a schema of settings. */
export interface Setting {
  /** Keys from the top. */
  path: string[]
  meta: z.GlobalMeta
  type: 'string' | 'number' | 'boolean' | 'array'
  choices: string[] | undefined
  /** Undefined where there is none. */
  default: unknown
  /** Where it has no default: always, or only where the optional section around it is given. */
  required: false | 'always' | 'with its section'
  /** Of numbers: `whole number >= 0`, `number > 0, <= 1`; else empty. */
  range: string
}

/** By schema: a study asks for the settings of one stage hundreds of times. */
const known = new WeakMap<z.ZodType, readonly Setting[]>()

/** The settings of a schema in their order; those of nested objects follow where the object stands. */
export function settingsOf(schema: z.ZodType): readonly Setting[] {
  const found = known.get(schema) ?? walk(schema, [], true)
  known.set(schema, found)
  return found
}

/** The name of a setting in messages and references: `endpoint.maxTokens`. */
export const keyOf = ({ path }: Pick<Setting, 'path'>): string => path.join('.')

/** The name of a setting on a command line. The address of a server has the name of the server: `endpoint`, not `endpoint-url`. */
export function flagOf({ path }: Pick<Setting, 'path'>): string {
  const words = path.length > 1 && path.at(-1) === 'url' ? path.slice(0, -1) : path
  return words.map(kebab).join('-')
}

const kebab = (word: string): string => word.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

/** The keys whose values are paths; with a kind, only those of it. */
export function pathsOf(schema: z.ZodType, kind?: z.GlobalMeta['path']): string[][] {
  const wanted = ({ meta }: Setting): boolean => (kind ? meta.path === kind : meta.path !== undefined)
  return settingsOf(schema)
    .filter(wanted)
    .map(({ path }) => path)
}

/**
 * What decides a result, as `key -> value`: the settings less the free ones and less paths, whose content counts instead.
 * @param ignored keys that change nothing beside the others, for instance the engine's where a server answers.
 */
export function identityOf(
  schema: z.ZodType,
  settings: object,
  ignored: readonly string[] = [],
): Record<string, unknown> {
  return Object.fromEntries(
    settingsOf(schema)
      .filter((setting) => !setting.meta.free && !setting.meta.path && !isUnder(setting.path, ignored))
      .map((setting): [string, unknown] => [keyOf(setting), plainOf(setting, valueAt(settings, setting.path))])
      .filter(([, value]) => value !== undefined),
  )
}

/** The query of an address may hold a key, which decides no result and is written nowhere. */
const plainOf = ({ meta }: Setting, value: unknown): unknown =>
  meta.secret && typeof value === 'string' ? value.replace(/[?#].*$/s, '') : value

export const isUnder = (path: readonly string[], keys: readonly string[]): boolean =>
  keys.some((key) => `${path.join('.')}.`.startsWith(`${key}.`))

export function valueAt(tree: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | null | undefined)?.[key], tree)
}

/** Objects on the way are made. */
export function setValueAt(tree: Tree, path: readonly string[], value: unknown): void {
  const parent = path.slice(0, -1).reduce<Tree>((node, key) => {
    if (!isTree(node[key])) node[key] = {}
    return node[key] as Tree
  }, tree)
  parent[path.at(-1) as string] = value
}

/** The object below optional, nullable and default; undefined for anything else. */
export function shapeOf(schema: z.ZodType): Record<string, z.ZodType> | undefined {
  const base = unwrap(schema)
  return base instanceof z.ZodObject ? base.shape : undefined
}

function unwrap(schema: z.ZodType): z.ZodType {
  const wrapped =
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodOptional
  return wrapped ? unwrap(schema.unwrap() as z.ZodType) : schema
}

function walk(schema: z.ZodType, path: string[], present: boolean): Setting[] {
  const shape = shapeOf(schema)
  if (!shape) return [leaf(schema, path, present)]
  // Keys of a section that may be left out whole are asked for only with it.
  const inside = present && !(path.length > 0 && schema.safeParse(undefined).success && schema instanceof z.ZodOptional)
  return Object.entries(shape).flatMap(([key, child]) => walk(child, [...path, key], inside))
}

function leaf(schema: z.ZodType, path: string[], present: boolean): Setting {
  const given = schema.safeParse(undefined)
  const json = z.toJSONSchema(unwrap(schema), { unrepresentable: 'any', io: 'input' })
  const { choices, type } = typeOf(json)
  return {
    path,
    meta: schema.meta() ?? {},
    type,
    choices,
    default: given.success ? given.data : undefined,
    required: !given.success && (present ? 'always' : 'with its section'),
    range: rangeOf(json),
  }
}

function typeOf(json: z.core.JSONSchema.BaseSchema): Pick<Setting, 'type' | 'choices'> {
  if (json.anyOf) {
    // `true | false | 'auto'` on a command line and in a page.
    const choices = json.anyOf.flatMap((each) => (each.type === 'boolean' ? ['true', 'false'] : [String(each.const)]))
    return { type: 'string', choices }
  }
  if (json.type === 'array')
    return { type: 'array', choices: json.items ? typeOf(json.items as typeof json).choices : undefined }
  if (json.type === 'boolean') return { type: 'boolean', choices: undefined }
  if (json.type === 'number' || json.type === 'integer') return { type: 'number', choices: undefined }
  return { type: 'string', choices: json.enum?.map(String) }
}

function rangeOf(json: z.core.JSONSchema.BaseSchema): string {
  const { type, minimum = Number.NEGATIVE_INFINITY, maximum = Number.POSITIVE_INFINITY } = json
  const { exclusiveMinimum: above, exclusiveMaximum: below } = json
  if (type !== 'integer' && type !== 'number') return ''
  const bounds = [
    typeof above === 'number' ? `> ${above}` : minimum > Number.MIN_SAFE_INTEGER ? `>= ${minimum}` : '',
    typeof below === 'number' ? `< ${below}` : maximum < Number.MAX_SAFE_INTEGER ? `<= ${maximum}` : '',
  ]
  return `${type === 'integer' ? 'whole number' : 'number'} ${bounds.filter((bound) => bound !== '').join(', ')}`.trim()
}
