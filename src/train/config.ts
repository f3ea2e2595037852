/** Reads a training configuration: `--set` over file over preset over default, every mistake reported with its place. */
import { stringify } from 'yaml'
import { coefficientNames, objectives, usedCoefficients } from '../engine/objectives.js'
import { ConfigError } from '../errors.js'
import { nearest } from '../options.js'
import { checkTree, configError, type Locate, readSettings, refuseUseless } from '../settings/file.js'
import { uselessSettings } from '../settings/needs.js'
import { describeIssues, type Problem } from '../settings/problems.js'
import { keyOf, pathsOf, settingsOf, setValueAt } from '../settings/setting.js'
import { isTree, resolvePaths, type Source, type Tree } from '../settings/source.js'
import { layOver, presetNames, readPreset } from './presets.js'
import { shapeKeys, type TrainConfig, type TrainConfigInput, trainSettings } from './settings.js'

const pathKeys = pathsOf(trainSettings)

/**
 * Reads a training configuration, a YAML file; docs/config.md lists its keys.
 * @param overrides as `readSettings` takes them.
 * @throws {ConfigError} listing every mistake.
 */
export async function loadTrainConfig(path: string, overrides: readonly string[] = []): Promise<TrainConfig> {
  const { tree, locate } = await readSettings(path, overrides, pathKeys)
  if (isTree(tree.train)) {
    const message =
      'This is the file of a pipeline, for fire-train run. A file of one training has the keys of its section `train` at the top.'
    throw configError([{ path: ['train'], message }], locate())
  }
  const config = checkTrainTree(tree, locate())
  refuseUseless(trainSettings, tree, config, locate())
  return config
}

/**
 * Reads what a run saved as config.resolved.yaml. One of an earlier version may hold settings that do nothing beside the others.
 * @throws {ConfigError} listing every mistake.
 */
export async function readResolvedConfig(path: string): Promise<TrainConfig> {
  const { tree, locate } = await readSettings(path, [], pathKeys)
  return checkTrainTree(tree, locate())
}

/** The same checks for a configuration given as an object; relative paths are resolved against the working folder. */
export function resolveTrainConfig(input: TrainConfigInput): TrainConfig {
  const tree = structuredClone(input) as unknown
  if (!isTree(tree)) throw new ConfigError('Expected an object for the configuration')
  resolvePaths(tree, process.cwd(), pathKeys)
  const config = checkTrainTree(tree, () => undefined)
  refuseUseless(trainSettings, tree, config, () => undefined)
  return config
}

/**
 * The settings again, for a configuration that did not come from here.
 * @throws {ConfigError} listing every mistake, unknown keys among them.
 */
export function checkTrainConfig(config: TrainConfig): void {
  checkTree(trainSettings, config as unknown as Tree, () => undefined)
}

/** YAML that loads back to the same configuration: what is printed and saved as config.resolved.yaml. */
export function formatConfig(config: TrainConfig): string {
  return stringify(config)
}

/** The checks of a training configuration whose paths are absolute; presets and defaults are laid under it. */
export function checkTrainTree(given: Tree, locate: Locate): TrainConfig {
  const preset = findPreset(given, locate)
  const tree = preset ? layOver(preset.tree, given) : given
  // What a preset says is spelled out in the resolved configuration, which therefore stands on its own.
  if (preset) delete tree.preset
  const parsed = trainSettings.safeParse(tree)
  const problems = parsed.success ? relations(tree, parsed.data) : describeIssues(trainSettings, parsed.error, tree)
  if (problems.length > 0 || !parsed.success) throw configError(problems, (keys) => locate(keys, preset))
  const { objective, microBatchSize, lora, earlyStopping, ...rest } = parsed.data
  const { name, ...chosen } = objective
  const { scope, coefficients } = objectives[name]
  return withoutUseless({
    ...rest,
    // A null takes away what a preset says.
    ...(earlyStopping && { earlyStopping }),
    objective: { name, scope, ...coefficients, ...chosen },
    microBatchSize: microBatchSize ?? parsed.data.batchSize,
    lora: lora.init === null ? lora : withoutShape(lora, given),
  })
}

/** What a preset or a pipeline says for all and does nothing here yields to the default, so that what is saved loads back. */
function withoutUseless(config: TrainConfig): TrainConfig {
  const result = structuredClone(config)
  const useless = uselessSettings(trainSettings, config as unknown as Tree, config).map(({ path }) => path.join('.'))
  for (const setting of settingsOf(trainSettings)) {
    if (useless.includes(keyOf(setting))) setValueAt(result as unknown as Tree, setting.path, setting.default)
  }
  return result
}

/** What `given` says of the shape is kept, and compared with the folder when a run begins; defaults and presets yield to it. */
function withoutShape(lora: Required<TrainConfig['lora']>, given: Tree): TrainConfig['lora'] {
  const own = isTree(given.lora) ? given.lora : {}
  const yields = (key: string): boolean => shapeKeys.some((each) => each === key) && own[key] === undefined
  return Object.fromEntries(Object.entries(lora).filter(([key]) => !yields(key))) as TrainConfig['lora']
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

type Parsed = ReturnType<typeof trainSettings.parse>

/** What no single key can tell. */
function relations(tree: Tree, config: Parsed): Problem[] {
  const problems: Problem[] = []
  const { name } = config.objective
  const uses = usedCoefficients(name)
  for (const key of unusedCoefficients(name)) {
    if (!isTree(tree.objective) || tree.objective[key] === undefined) continue
    const used = uses.length > 0 ? uses.join(', ') : 'no coefficient'
    const message = `The objective ${name} does not use ${key} (it uses ${used}): setting it would change nothing`
    problems.push({ path: ['objective', key], message })
  }
  for (const key of objectives[name].above0) {
    if (config.objective[key] !== 0) continue
    const message = `Expected a number > 0 for objective.${key} of ${name} but received 0`
    problems.push({ path: ['objective', key], message })
  }
  if (config.schedule.warmupSteps !== null && config.schedule.warmupRatio !== null) {
    problems.push({ path: ['schedule', 'warmupRatio'], message: 'Give warmupSteps or warmupRatio, not both' })
  }
  const { lr, weightDecay } = config.optimizer
  if (lr * weightDecay > 1) {
    const message = `weightDecay ${weightDecay} times lr ${lr} is above 1: it would turn every parameter around`
    problems.push({ path: ['optimizer', 'weightDecay'], message })
  }
  if (config.microBatchSize !== null && config.microBatchSize > config.batchSize) {
    const message = `microBatchSize (${config.microBatchSize}) is larger than batchSize (${config.batchSize})`
    problems.push({ path: ['microBatchSize'], message })
  }
  return [...problems, ...heldOutProblems(config)]
}

/** What needs held-out pairs, or an objective that measures it. */
function heldOutProblems({ data, evalSamples, earlyStopping, checkpoint, objective }: Parsed): Problem[] {
  const problems: Problem[] = []
  const add = (path: string[], message: string): number => problems.push({ path, message })
  if (data.eval !== null && data.evalShare !== null)
    add(['data', 'evalShare'], 'Give data.eval or data.evalShare, not both')
  const users = [
    { path: ['evalSamples'], isSet: evalSamples > 0, metric: null },
    { path: ['earlyStopping'], isSet: Boolean(earlyStopping), metric: earlyStopping?.metric ?? null },
    { path: ['checkpoint', 'best'], isSet: checkpoint.best !== null, metric: checkpoint.best },
  ]
  const { prefers, visual } = objectives[objective.name]
  for (const { path, isSet, metric } of users) {
    if (isSet && data.eval === null && data.evalShare === null)
      add(path, `${path.join('.')} needs held-out pairs: give data.eval, or data.evalShare`)
    if (metric?.includes('/visual/') && visual === null)
      add(path, `${objective.name} has no ${metric}: it does not look at corrupted images`)
    else if (metric?.startsWith('eval_rewards/') && prefers === null)
      add(path, `${objective.name} has no ${metric}: it compares no answers`)
  }
  return problems
}

function unusedCoefficients(name: TrainConfig['objective']['name']): string[] {
  return coefficientNames.filter((coefficient) => !usedCoefficients(name).includes(coefficient))
}
