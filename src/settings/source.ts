/** One YAML text of settings: its tree, with relative paths made absolute, and the lines its keys stand on. */
import { dirname, resolve } from 'node:path'
import { isMap, LineCounter, parseDocument } from 'yaml'
import { ConfigError, guarded } from '../errors.js'

export type Tree = Record<string, unknown>

export type KeyPath = readonly PropertyKey[]

export interface Source {
  tree: Tree
  /** `file:line` of the deepest key of `path` that is there, and how many keys of the path that is. */
  locate(path: KeyPath): { place: string; depth: number }
}

/**
 * @param paths keys that hold paths: relative ones are resolved against the folder of the file.
 * @throws {ConfigError} when the text is no YAML, or no keys and values.
 */
export function parseSource(path: string, text: string, paths: readonly KeyPath[]): Source {
  const lines = new LineCounter()
  const refuse = (reason: string, line?: number): ConfigError =>
    new ConfigError(`${path}${line === undefined ? '' : `:${line}`}: ${reason}`, { detail: { path, line } })
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: true, logLevel: 'error' })
  const [mistake] = document.errors
  if (mistake) throw refuse(inWords(mistake.message), mistake.linePos?.[0].line)
  // An alias without its anchor shows only here, and one inside its own anchor only when it is followed.
  const tree: unknown =
    guarded(
      () => document.toJS(),
      (reason) => refuse(reason),
    ) ?? {}
  guarded(
    () => JSON.stringify(tree),
    () => refuse('an alias stands inside its own anchor'),
  )
  if (!isTree(tree)) throw refuse('expected keys and values at the top level')
  resolvePaths(tree, dirname(resolve(path)), paths)
  return {
    tree,
    locate(keys) {
      const { offset, depth } = findKey(document.contents, keys)
      return { place: offset === undefined ? path : `${path}:${lines.linePos(offset).line}`, depth }
    },
  }
}

/** The sentence alone: where it is stands before it. */
function inWords(message: string): string {
  if (message.startsWith('Maximum call stack')) return 'it is nested too deeply'
  if (message.startsWith('Source contains multiple documents')) return 'a second document begins; a file has one'
  // The parser names the line that the next one is indented under.
  if (message.startsWith('Nested mappings are not allowed in compact mappings'))
    return 'the next line is indented below a key that has a value already'
  return message.split('\n')[0].replace(/ at line \d+, column \d+:?$/, '')
}

export function resolvePaths(tree: Tree, base: string, paths: readonly KeyPath[]): void {
  for (const keys of paths) {
    const parent = keys
      .slice(0, -1)
      .reduce<unknown>((node, key) => (isTree(node) ? node[String(key)] : undefined), tree)
    const last = String(keys.at(-1))
    if (!isTree(parent)) continue
    const value = parent[last]
    if (typeof value === 'string' && value !== '') parent[last] = resolve(base, value)
    else if (Array.isArray(value))
      parent[last] = value.map((each) => (typeof each === 'string' ? resolve(base, each) : each))
  }
}

export function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** One tree on another: sections are joined key by key, everything else is replaced. */
export function joinTrees(below: Tree, above: Tree): Tree {
  const joined = { ...below }
  for (const [key, value] of Object.entries(above)) {
    const under = below[key]
    joined[key] = isTree(under) && isTree(value) ? joinTrees(under, value) : value
  }
  return joined
}

function findKey(node: unknown, path: KeyPath): { offset: number | undefined; depth: number } {
  let offset: number | undefined
  let depth = 0
  let current = node
  for (const key of path) {
    if (!isMap(current)) break
    const item = current.items.find((entry) => String(entry.key) === String(key))
    if (!item) break
    offset = (item.key as { range?: [number, number, number] }).range?.[0] ?? offset
    depth += 1
    current = item.value
  }
  return { offset, depth }
}
