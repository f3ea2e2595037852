/** The keys and sections of a pipeline as they stand in the file of a study: whole in its base, dotted in every set of changes. */
import { nearest } from '../options.js'
import { pipelineSchema, stages } from '../pipeline/index.js'
import type { Problem } from '../settings/problems.js'
import { pathsOf, setValueAt, shapeOf } from '../settings/setting.js'
import { isTree, resolvePaths, type Tree } from '../settings/source.js'
import type { Changes } from './settings.js'

/** Some keys of a pipeline, somewhere in the file. */
interface KeySet {
  /** Where they stand. */
  place: string[]
  /** What their keys are below, in a pipeline. */
  below: string[]
  values: Tree
}

/** Every place of a file that has them. */
function keySets(file: Tree): KeySet[] {
  const below = (keys: string[], place: string[], values: unknown): KeySet[] =>
    isTree(values) ? [{ place, below: keys, values }] : []
  const setOf = (keys: string[], place: string[], holder: unknown): KeySet[] =>
    below(keys, [...place, 'set'], isTree(holder) ? holder.set : undefined)
  const each = (key: string, keys: string[]): KeySet[] =>
    isTree(file[key]) ? Object.entries(file[key]).flatMap(([name, held]) => setOf(keys, [key, name], held)) : []
  const heldOut = isTree(file.heldOut) ? file.heldOut : {}
  return [
    ...below([], ['base'], file.base),
    ...each('arms', []),
    ...each('evaluations', ['evaluate']),
    ...['sample', 'pairs'].flatMap((name) => below([name], ['heldOut', name], heldOut[name])),
    ...setOf([], ['tune'], file.tune),
    ...setOf([], ['quick'], file.quick),
  ]
}

/** Makes every relative path of a file absolute. @param folder of the file. */
export function resolveKeys(file: Tree, folder: string): void {
  const paths = pathsOf(pipelineSchema())
  for (const { below, values } of keySets(file)) {
    for (const [key, value] of Object.entries(values)) {
      const keys = [...below, ...key.split('.')]
      for (const path of paths.filter((each) => keys.every((part, i) => part === each[i]))) {
        const rest = path.slice(keys.length)
        if (rest.length === 0) resolvePaths(values, folder, [[key]])
        else if (isTree(value)) resolvePaths(value, folder, [rest])
      }
    }
  }
}

/** What each key that no stage has was meant to be; without this an arm with a mistyped one would silently be another arm. */
export function unknownKeys(file: Tree): Problem[] {
  return keySets(file).flatMap(({ place, below, values }) =>
    Object.entries(values).flatMap(([key, value]) => {
      const message = problemOf([...below, ...key.split('.')], value)
      return message === undefined
        ? []
        : [{ path: [...place, key], message: `${[...place, key].join('.')}: ${message}` }]
    }),
  )
}

function problemOf(keys: readonly string[], value: unknown): string | undefined {
  if (keys.length === 1 && reserved[keys[0]]) return reserved[keys[0]]
  const isSection = keys.length === 1 && stages.some(({ name }) => name === keys[0])
  if (isSection && value !== null && !isTree(value)) return 'expected the keys of the section, or null'
  let schema: Parameters<typeof shapeOf>[0] = pipelineSchema()
  for (const key of keys) {
    const shape = shapeOf(schema)
    if (!shape) return undefined
    if (!Object.hasOwn(shape, key)) return unknown(key, Object.keys(shape))
    schema = shape[key]
  }
  if (!isTree(value) || !shapeOf(schema)) return undefined
  for (const [key, inner] of Object.entries(value)) {
    const problem = problemOf([...keys, key], inner)
    if (problem !== undefined) return problem
  }
  return undefined
}

const reserved: Record<string, string> = {
  seed: 'the study sets it, from its own seeds',
  output: 'the study sets it',
  rounds: 'the arms of a study train once',
}

function unknown(key: string, known: readonly string[]): string {
  const near = nearest(key, known)
  return `Unknown key '${key}'; ${near ? `did you mean '${near}'?` : `there are ${known.join(', ')}`}`
}

/** A copy with the changes in it. */
export function applied(tree: Tree, changes: Changes): Tree {
  const copy = structuredClone(tree)
  for (const [key, value] of Object.entries(changes)) setValueAt(copy, key.split('.'), value)
  return copy
}
