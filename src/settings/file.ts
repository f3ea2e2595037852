/** Reads a settings file: `--set` over file, every mistake reported with its place. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { parse } from 'yaml'
import type { z } from 'zod'
import { asFileError, ConfigError } from '../errors.js'
import { describeIssues, type Problem } from './problems.js'
import { isTree, type KeyPath, parseSource, type Source, type Tree } from './source.js'

/** Where an explicit value came from, for messages: "train.yaml:12" or "--set objective.beta=1". */
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
  const text = await readFile(path, 'utf8').catch(asFileError('Reading the configuration', path))
  const file = parseSource(path, text, paths)
  const fromFlags = applyOverrides(file.tree, overrides, paths)
  return {
    tree: file.tree,
    locate:
      (prefix = []) =>
      (keys, preset) => {
        const whole = [...prefix, ...keys]
        const flag = fromFlags.get(whole.join('.'))
        if (flag) return flag
        const here = file.locate(whole)
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
  if (!parsed.success) throw configError(describeIssues(schema, parsed.error, tree), locate)
  return parsed.data
}

/** One error for all problems, each with its place. */
export function configError(problems: Problem[], locate: Locate): ConfigError {
  const lines = problems.map(({ path, message }) => {
    const place = locate(path)
    return place ? `${place}: ${message}` : message
  })
  const detail = { problems: problems.map(({ path, message }) => ({ path: path.join('.'), message })) }
  return new ConfigError(lines.join('\n'), { detail })
}

function applyOverrides(tree: Tree, overrides: readonly string[], paths: readonly KeyPath[]): Map<string, string> {
  const sources = new Map<string, string>()
  for (const override of overrides) {
    const equals = override.indexOf('=')
    const keys = override.slice(0, equals).split('.')
    if (equals < 1 || keys.some((key) => key === '')) {
      throw new ConfigError(`--set ${override}: expected key=value, for instance --set optimizer.lr=1e-5`)
    }
    setAt(tree, keys, parseValue(override, override.slice(equals + 1)), paths)
    sources.set(keys.join('.'), `--set ${override}`)
  }
  return sources
}

function parseValue(override: string, text: string): unknown {
  try {
    return parse(text) ?? null
  } catch (error) {
    throw new ConfigError(`--set ${override}: the value is not YAML`, { cause: error })
  }
}

function setAt(tree: Tree, keys: string[], value: unknown, paths: readonly KeyPath[]): void {
  const last = keys.at(-1) as string
  let node = tree
  for (const key of keys.slice(0, -1)) {
    node[key] ??= {}
    const child = node[key]
    if (!isTree(child)) throw new ConfigError(`--set ${keys.join('.')}: ${key} holds a value, not keys`)
    node = child
  }
  const isPath = paths.some((path) => path.join('.') === keys.join('.'))
  node[last] = isPath && typeof value === 'string' ? resolve(value) : value
}
