/** Reads a training configuration: `--set` over file over preset over default, every mistake reported with its place. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { parse, stringify } from 'yaml'
import { ConfigError, fileError } from '../errors.js'
import { coefficientNames, objectives } from './objectives.js'
import { layOver, presetNames, readPreset } from './presets.js'
import { describeIssues, type KeyPath, nearest, type Problem } from './problems.js'
import { type TrainConfig, type TrainConfigInput, trainSchema } from './schema.js'
import { isTree, parseSource, pathKeys, resolvePaths, type Source, type Tree } from './source.js'

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
  const text = await readFile(path, 'utf8').catch((error) => {
    throw fileError(error, 'Reading the configuration', path)
  })
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
 * @param overrides as `readSettings` takes them.
 * @throws {ConfigError} listing every mistake.
 */
export async function loadTrainConfig(path: string, overrides: readonly string[] = []): Promise<TrainConfig> {
  const settings = await readSettings(path, overrides, pathKeys)
  return checkTrainTree(settings.tree, settings.locate())
}

/** The same checks for a configuration given as an object; relative paths are resolved against the working folder. */
export function resolveTrainConfig(input: TrainConfigInput): TrainConfig {
  const tree = structuredClone(input) as unknown
  if (!isTree(tree)) throw new ConfigError('Expected an object for the configuration')
  resolvePaths(tree, process.cwd())
  return checkTrainTree(tree, () => undefined)
}

/** YAML that loads back to the same configuration: what is printed and saved as config.resolved.yaml. */
export function formatConfig(config: TrainConfig): string {
  const objective: Tree = { ...config.objective }
  for (const unused of unusedCoefficients(config.objective.name)) delete objective[unused]
  return stringify({ ...config, objective })
}

/** The checks of a training configuration whose paths are absolute; presets and defaults are laid under it. */
export function checkTrainTree(given: Tree, locate: Locate): TrainConfig {
  const preset = findPreset(given, locate)
  const tree = preset ? layOver(preset.tree, given) : given
  // What a preset says is spelled out in the resolved configuration, which therefore stands on its own.
  if (preset) delete tree.preset
  const parsed = trainSchema.safeParse(tree)
  const problems = parsed.success ? relations(tree, parsed.data) : describeIssues(trainSchema, parsed.error, tree)
  if (problems.length > 0 || !parsed.success) throw configError(problems, (keys) => locate(keys, preset))
  return { ...parsed.data, microBatchSize: parsed.data.microBatchSize ?? parsed.data.batchSize }
}

function findPreset({ preset: name }: Tree, locate: Locate): Source | undefined {
  if (typeof name !== 'string') return undefined
  const preset = readPreset(name)
  if (preset) return preset
  const near = nearest(name, presetNames())
  const advice = near ? `; did you mean '${near}'?` : ''
  const message = `Unknown preset '${name}'; the presets are ${presetNames().join(', ')}${advice}`
  throw configError([{ path: ['preset'], message }], (keys) => locate(keys, undefined))
}

/** What no single key can tell. */
function relations(tree: Tree, config: ReturnType<typeof trainSchema.parse>): Problem[] {
  const problems: Problem[] = []
  const { name } = config.objective
  const uses = objectives[name].uses
  for (const key of unusedCoefficients(name)) {
    if (!isTree(tree.objective) || tree.objective[key] === undefined) continue
    const used = uses.length > 0 ? uses.join(', ') : 'no coefficient'
    const message = `The objective ${name} does not use ${key} (it uses ${used}): setting it would change nothing`
    problems.push({ path: ['objective', key], message })
  }
  if (config.schedule.warmupSteps !== null && config.schedule.warmupRatio !== null) {
    problems.push({ path: ['schedule', 'warmupRatio'], message: 'Give warmupSteps or warmupRatio, not both' })
  }
  if (config.microBatchSize !== null && config.microBatchSize > config.batchSize) {
    const message = `microBatchSize (${config.microBatchSize}) is larger than batchSize (${config.batchSize})`
    problems.push({ path: ['microBatchSize'], message })
  }
  return problems
}

function unusedCoefficients(name: TrainConfig['objective']['name']): string[] {
  return coefficientNames.filter((coefficient) => !objectives[name].uses.includes(coefficient))
}

/** One error for all problems, each with its place. */
export function configError(problems: Problem[], locate: (path: KeyPath) => string | undefined): ConfigError {
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
