/**
 * A study as a graph of steps. A step is one run of a stage; its name holds a hash of everything that decides its result, so
 * arms that agree in what comes before have one step in common.
 */
import { readFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { sha256 } from '../data/files.js'
import type { PlannedStage } from '../pipeline/index.js'
import { planStage, sharedSettings, stages } from '../pipeline/index.js'
import { configError } from '../settings/file.js'
import { setValueAt } from '../settings/setting.js'
import { isTree, type KeyPath, type Tree } from '../settings/source.js'
import type { Artifacts, Stage } from '../stage/index.js'
import { version } from '../version.js'
import { type Choice, chooseStep, type Tuned } from './choose.js'
import type { ContentHashes } from './contents.js'
import { studyFiles } from './files.js'
import type { Study } from './load.js'
import type { Changes, Tune } from './settings.js'
import { isDone, type Step, stepsFolder } from './steps.js'

/** One arm with one seed. */
export interface Run {
  arm: string
  seed: number
  /** In the order they run; steps of a run that waits are not known yet. */
  steps: Step[]
  /** The evaluation of the tables under `''`, further ones under their names. */
  evaluations: Record<string, Step>
  /** The choice that the rest depends on, until it is made. */
  waitsFor: Step | null
  /** What was chosen for it. */
  tuned: Tuned | null
}

/** A study as it stands: every run, and every step once, each after those that it needs. */
export interface Graph {
  runs: Run[]
  steps: Map<string, Step>
}

/** What is planned with. */
interface Planning {
  study: Study
  /** Folder of the study. */
  root: string
  contents: ContentHashes
  steps: Map<string, Step>
  /** Plan runs whose value is not chosen yet as if it were the first one that is tried. */
  assume: boolean
}

/**
 * Decides every step that can be decided now: a run waits while its tuned value is not chosen. Writes nothing.
 * @param assume plan waiting runs too, with the first value that is tried; for estimates.
 * @throws {ConfigError} for settings of an arm that its stage refuses.
 */
export async function planStudy(
  study: Study,
  root: string,
  contents: ContentHashes,
  { assume = false } = {},
): Promise<Graph> {
  const planning: Planning = { study, root, contents, steps: new Map(), assume }
  const runs: Run[] = []
  for (const seed of study.seeds) {
    for (const arm of armsOf(study)) runs.push(await planRun(planning, arm, seed))
  }
  return { runs, steps: planning.steps }
}

/** The arms that are run, in the order of the file. */
export function armsOf({ arms, tables, only }: Study): string[] {
  const shown = new Set(Object.values(tables).flatMap((table) => table.arms))
  return Object.keys(arms).filter((name) => (only ? only.includes(name) : shown.has(name)))
}

async function planRun(planning: Planning, arm: string, seed: number): Promise<Run> {
  const { study, assume } = planning
  const run: Run = { arm, seed, steps: [], evaluations: {}, waitsFor: null, tuned: null }
  const changes = { ...study.arms[arm].set }
  const tune = tuneOf(study, arm)
  if (tune) {
    const choice = await planChoice(planning, tune, study.arms[arm].tunedAs ?? arm)
    const assumed: Tuned | null = assume ? { setting: tune.setting, value: tune.values[0], trials: [] } : null
    run.tuned = chosenBy(choice) ?? assumed
    if (!isDone(choice)) run.waitsFor = choice
    if (!run.tuned) return run
    changes[tune.setting] = run.tuned.value
  }
  return Object.assign(run, await planStages(planning, arm, seed, changes, furtherOf(study, arm)))
}

/** What the tables of the arm ask for beside the evaluation that they all have. */
function furtherOf({ tables, evaluations }: Study, arm: string): Study['evaluations'] {
  const asked = Object.values(tables).flatMap((table) => (table.arms.includes(arm) ? table.evaluations : []))
  return Object.fromEntries(Object.entries(evaluations).filter(([name]) => asked.includes(name)))
}

/** The trial section, where the arm trains at all and does not set the value itself. */
function tuneOf({ arms, base, tune }: Study, arm: string): Tune | undefined {
  if (!tune) return undefined
  const { set } = arms[arm]
  const [section] = tune.setting.split('.')
  const isOff = set[section] === null || (base[section] === undefined && set[section] === undefined)
  return isOff || tune.setting in set ? undefined : tune
}

/** The trials of an arm, and the step that chooses among them. */
async function planChoice(planning: Planning, tune: Tune, arm: string): Promise<Step> {
  const trials: { value: number; evaluation: Step }[] = []
  for (const value of tune.values) {
    const changes = { ...tune.set, ...planning.study.arms[arm].set, [tune.setting]: value }
    const { evaluations } = await planStages(planning, arm, tune.seed, changes)
    trials.push({ value, evaluation: evaluations[''] })
  }
  const step = chooseStep(planning.root, tune, trials)
  return addStep(planning, step)
}

function chosenBy(choice: Step): Tuned | undefined {
  if (!isDone(choice)) return undefined
  const { setting, chosen, trials } = JSON.parse(readFileSync(choice.outputs[0], 'utf8')) as Choice
  return { setting, value: chosen, trials }
}

/** The steps of one run, those that no evaluation needs left out. */
async function planStages(
  planning: Planning,
  arm: string,
  seed: number,
  changes: Changes,
  further: Study['evaluations'] = {},
): Promise<Pick<Run, 'steps' | 'evaluations'>> {
  const { study } = planning
  const tree = { ...applied(study.base, changes), seed }
  const artifacts: Artifacts = {}
  const own = new Map<string, Step>()
  const evaluations: Record<string, Step> = {}
  for (const stage of stages) {
    const section = tree[stage.name as keyof typeof tree]
    if (!isTree(section) || stage.name === 'report') continue
    const variants = stage.name === 'evaluate' ? { '': first, ...further } : { '': first }
    for (const [name, { set, rewards }] of Object.entries(variants)) {
      const changed = applied(section, set)
      if (rewards && artifacts.adapter) changed.rewardPairs = [await heldOutPairs(planning, seed, own)]
      const { step, makes } = await planStep(planning, stage, changed, { tree, artifacts, arm })
      own.set(step.name, step)
      if (stage.name === 'evaluate') evaluations[name] = step
      else Object.assign(artifacts, makes)
    }
  }
  if (Object.keys(evaluations).length === 0) {
    throw configError(
      [{ path: ['base', 'evaluate'], message: 'base.evaluate is missing: nothing would be measured' }],
      study.locate,
    )
  }
  const needed = withNeeds(Object.values(evaluations), own)
  const steps = [...own.values()].filter(({ name }) => needed.has(name)).map((step) => addStep(planning, step))
  return { steps, evaluations }
}

/** The section as it is. */
const first = { set: {}, rewards: false }

/** Path of the pairs that rewards are measured on: the base's, so that they are the same for all arms. */
async function heldOutPairs(planning: Planning, seed: number, own: Map<string, Step>): Promise<string> {
  const { study } = planning
  const tree: Tree = { ...structuredClone(study.base), seed }
  const artifacts: Artifacts = {}
  for (const stage of stages.filter(({ name }) => ['import', 'sample', 'pairs'].includes(name))) {
    const section = tree[stage.name]
    if (!isTree(section)) continue
    const changes = study.heldOut?.[stage.name as 'sample' | 'pairs'] ?? {}
    const { step, makes } = await planStep(planning, stage, applied(section, changes), { tree, artifacts })
    own.set(step.name, step)
    Object.assign(artifacts, makes)
  }
  if (artifacts.pairs !== undefined) return artifacts.pairs
  const message = 'base.pairs is missing: heldOut has nothing to make pairs with'
  throw configError([{ path: ['base', 'pairs'], message }], study.locate)
}

/** A copy with the changes in it. */
function applied(tree: Tree, changes: Changes): Tree {
  const copy = structuredClone(tree)
  for (const [key, value] of Object.entries(changes)) setValueAt(copy, key.split('.'), value)
  return copy
}

async function planStep(
  { study, root, contents }: Planning,
  stage: Stage,
  section: Tree,
  { tree, artifacts, arm }: { tree: Tree; artifacts: Artifacts; arm?: string },
): Promise<{ step: Step; makes: Artifacts }> {
  const shared = Object.entries(tree).filter(([key]) => key in sharedSettings.shape && key !== 'output')
  const common = { featureStore: join(root, studyFiles.features), ...Object.fromEntries(shared) }
  const locate = (keys: KeyPath): string | undefined => {
    const key = [stage.name, ...keys].join('.')
    const own = arm === undefined ? [] : Object.keys(study.arms[arm].set)
    const isOwn = own.some((each) => key.startsWith(each) || each.startsWith(key))
    return study.locate(isOwn && arm !== undefined ? ['arms', arm, 'set'] : ['base', stage.name, ...keys])
  }
  // An arm may leave a setting of the base without effect; one of its own it may not.
  const changes = arm === undefined ? {} : applied({}, study.arms[arm].set)
  const meant = isTree(changes[stage.name]) ? (changes[stage.name] as Tree) : {}
  const plan = (folder: string): PlannedStage => planStage(stage, section, { common, artifacts, folder, locate, meant })
  // Nothing of the identity depends on where it writes.
  const { inputs, identity, reads } = plan(join(stepsFolder(root), stage.name))
  const contentOf = async (path: string): Promise<string> => nameInside(root, path) ?? (await contents.of(path))
  const from: string[] = []
  for (const { path } of inputs) from.push(await contentOf(path))
  const settings = inputs.map(({ setting }) => setting)
  const named: [input: string, file: string, content: string][] = []
  // What a step of the study names is told by how the step was made.
  for (const { input, files } of reads.filter(({ input }) => nameInside(root, input) === undefined)) {
    const setting = settings[inputs.findIndex(({ path }) => path === input)]
    for (const path of await files()) {
      named.push([setting, relative(dirname(input), path), String(await contents.ofAny(path))])
    }
  }
  from.push(...named.map(([, , content]) => content))
  const key = sha256(JSON.stringify([version, stage.name, identity, settings, from, named])).slice(0, 12)
  const name = `${stage.name}-${key}`
  const folder = join(stepsFolder(root), name)
  const planned = plan(folder)
  const needs = [...new Set(from.flatMap((each) => (each.includes('/') ? each.split('/')[0] : [])))]
  const step: Step = { ...planned, name, stage: stage.name, folder, needs, from }
  return { step, makes: planned.makes }
}

/** `train-0123456789ab/adapter` of what a step makes; undefined for any other path. */
function nameInside(root: string, path: string): string | undefined {
  const inside = relative(stepsFolder(root), path)
  return inside.startsWith('..') || inside === path ? undefined : inside.split(sep).join('/')
}

function withNeeds(last: readonly Step[], steps: ReadonlyMap<string, Step>): Set<string> {
  const needed = new Set<string>()
  const visit = (step: Step | undefined): void => {
    if (!step || needed.has(step.name)) return
    needed.add(step.name)
    for (const name of step.needs) visit(steps.get(name))
  }
  for (const step of last) visit(step)
  return needed
}

/** Keeps one step of a name. */
function addStep({ steps }: Planning, step: Step): Step {
  const known = steps.get(step.name)
  if (known) return known
  steps.set(step.name, step)
  return step
}
