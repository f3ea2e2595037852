/** Reads a settings file: `--set` over file, every mistake reported with its place. */
import { createReadStream } from 'node:fs'
import { resolve } from 'node:path'
import { parse } from 'yaml'
import type { z } from 'zod'
import { asFileError, ConfigError, guarded } from '../errors.js'
import { uselessSettings } from './needs.js'
import { describeIssues, type Problem } from './problems.js'
import { isTree, type KeyPath, parseSource, type Source, type Tree } from './source.js'

/** Where an explicit value came from, for messages: "train.yaml:12", "--set objective.beta=1" or the flag "--beta". */
export type Locate = (path: KeyPath, preset?: Source) => string | undefined

/** A settings file with the overrides of the command line laid over it. */
export interface Settings {
  tree: Tree
  /** Places of keys below `prefix`. */
  locate(prefix?: KeyPath): Locate
}

/**
 * @param overrides `key.path=value` texts; the value is read as YAML, so `1e-5`, `true`, `null` and `[a, b]` are typed.
 * @param paths keys that hold paths.
 */
export async function readSettings(
  path: string,
  overrides: readonly string[],
  paths: readonly KeyPath[],
): Promise<Settings> {
  const text = await readText(path)
  const file = parseSource(path, text, paths)
  const sources = applyOverrides(file.tree, overrides, paths)
  /** The last override of the key, of one above it, or of one below it that made it. */
  const overrideOf = (path: readonly string[], depthInFile: number): string | undefined =>
    sources.findLast(({ keys }) => {
      const common = keys.findIndex((key, index) => key !== path[index])
      if (common < 0) return true
      return common === path.length && path.length > depthInFile
    })?.said
  return {
    tree: file.tree,
    locate:
      (prefix = []) =>
      (keys, preset) => {
        const whole = [...prefix, ...keys]
        const here = file.locate(whole)
        const flag = overrideOf(whole.map(String), here.depth)
        if (flag) return flag
        const below = preset?.locate(keys)
        return below && below.depth > here.depth - prefix.length ? below.place : here.place
      },
  }
}

/**
 * The settings of a tree under a schema.
 * @throws {ConfigError} listing every mistake with its place.
 */
export function checkTree<S extends z.ZodType>(schema: S, tree: Tree, locate: Locate): z.output<S> {
  const parsed = schema.safeParse(tree)
  if (parsed.success) return parsed.data
  throw namedError((nameOf) => describeIssues(schema, parsed.error, tree, nameOf), locate)
}

/**
 * @param given what somebody wrote, without what a pipeline fills in.
 * @throws {ConfigError} listing every setting that does nothing beside the checked ones.
 */
export function refuseUseless(schema: z.ZodType, given: Tree, settings: unknown, locate: Locate): void {
  if (uselessSettings(schema, given, settings).length === 0) return
  throw namedError((nameOf) => uselessSettings(schema, given, settings, nameOf), locate)
}

/** A command line calls settings by their flags, a file by their keys, with their place before them. */
function namedError(describe: (nameOf: (path: KeyPath) => string) => Problem[], locate: Locate): ConfigError {
  const flagOf = (path: KeyPath): string | undefined => /^(--(?!set )|<).*/.exec(locate(path) ?? '')?.[0]
  return configError(
    describe((path) => flagOf(path) ?? path.join('.')),
    (path) => (flagOf(path) ? undefined : locate(path)),
  )
}

/** So many mistakes are told; a file with more is of another kind. */
const shownProblems = 20

/** One error for all problems, each with its place. */
export function configError(problems: Problem[], locate: Locate): ConfigError {
  const lines = problems.slice(0, shownProblems).map(({ path, message }) => {
    const place = locate(path)
    return place ? `${place}: ${message}` : message
  })
  const more = problems.length > lines.length ? [`… and ${problems.length - lines.length} more`] : []
  const detail = { problems: problems.map(({ path, message }) => ({ path: path.join('.'), message })) }
  return new ConfigError([...lines, ...more].join('\n'), { detail })
}

/** No file of settings is larger, by far. */
const largestFile = 2 ** 20

async function readText(path: string): Promise<string> {
  const failed = asFileError('Reading the configuration', path)
  const chunks: Buffer[] = []
  let size = 0
  try {
    // Not by its size: `<(…)` has none.
    for await (const chunk of createReadStream(path)) {
      chunks.push(chunk)
      size += chunk.length
      if (size > largestFile)
        throw new ConfigError(`${path}: more than 1 MiB, which is no file of settings`, { detail: { path } })
    }
  } catch (error) {
    failed(error)
  }
  return Buffer.concat(chunks).toString('utf8')
}

interface Override {
  keys: string[]
  /** For messages. */
  said: string
}

function applyOverrides(tree: Tree, overrides: readonly string[], paths: readonly KeyPath[]): Override[] {
  return overrides.map((override) => {
    const equals = override.indexOf('=')
    const keys = override.slice(0, equals).split('.')
    const said = `--set ${override.length > 80 ? `${override.slice(0, 79)}…` : override}`
    if (equals < 1 || keys.some((key) => key === '')) {
      throw new ConfigError(`${said}: expected KEY=VALUE, for instance --set optimizer.lr=1e-5`)
    }
    // What every object has is no key.
    if (keys.includes('__proto__')) throw new ConfigError(`${said}: Unknown key ${keys.join('.')}`)
    setAt(tree, { keys, said }, parseValue(said, override.slice(equals + 1)), paths)
    return { keys, said }
  })
}

function parseValue(said: string, text: string): unknown {
  return guarded(
    () => parse(text, { logLevel: 'error' }) ?? null,
    (_reason, cause) => new ConfigError(`${said}: the value is not YAML`, { cause }),
  )
}

function setAt(tree: Tree, { keys, said }: Override, value: unknown, paths: readonly KeyPath[]): void {
  const last = keys.at(-1) as string
  let node = tree
  for (const key of keys.slice(0, -1)) {
    if (!Object.hasOwn(node, key) || node[key] === null) node[key] = {}
    const child = node[key]
    if (!isTree(child)) throw new ConfigError(`${said}: ${key} holds a value, not keys`)
    node = child
  }
  const isPath = paths.some((path) => path.join('.') === keys.join('.'))
  const place = (each: unknown): unknown => (isPath && typeof each === 'string' ? resolve(each) : each)
  node[last] = Array.isArray(value) ? value.map(place) : place(value)
}
