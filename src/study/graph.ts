/**
 * A study as a graph of steps. A step is one run of a stage; its name holds a hash of everything that decides its result, so
 * arms that agree in what comes before have one step in common.
 */
import { dirname, join, relative, sep } from 'node:path'
import { sha256 } from '../data/files.js'
import type { PlannedStage } from '../pipeline/index.js'
import { planStage, sharedSettings, stages } from '../pipeline/index.js'
import { configError } from '../settings/file.js'
import { valueAt } from '../settings/setting.js'
import { isTree, type KeyPath, type Tree } from '../settings/source.js'
import type { Artifacts, Stage } from '../stage/index.js'
import { version } from '../version.js'
import { applied } from './changes.js'
import { chooseStep } from './choose.js'
import type { ContentHashes } from './contents.js'
import { studyFiles } from './files.js'
import type { Study } from './load.js'
import type { Plan, PlannedRun } from './plan.js'
import type { Changes, Tune } from './settings.js'
import { type Step, stepsFolder } from './steps.js'

/** What is planned with. */
interface Planning {
  study: Study
  /** Folder of the study. */
  root: string
  contents: ContentHashes
  steps: Map<string, Step>
  /** Steps by all that they are planned from: arms have most of them in common. */
  planned: Map<string, Promise<PlannedStep>>
}

/**
 * Decides every step, for every value that may be chosen. Writes nothing.
 * @throws {ConfigError} for settings of an arm that its stage refuses, and for a choice on what is reported.
 */
export async function planStudy(study: Study, root: string, contents: ContentHashes): Promise<Plan> {
  const planning: Planning = { study, root, contents, steps: new Map(), planned: new Map() }
  const runs: PlannedRun[] = []
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

async function planRun(planning: Planning, arm: string, seed: number): Promise<PlannedRun> {
  const { study } = planning
  const { set, tunedAs = arm } = study.arms[arm]
  const tune = tuneOf(study, arm)
  const further = furtherOf(study, arm)
  if (!tune) return { arm, seed, choice: null, branches: [await planBranch(planning, arm, seed, null, set, further)] }
  const choice = await planChoice(planning, tune, tunedAs)
  const branches: PlannedRun['branches'] = []
  for (const value of tune.values) {
    branches.push(await planBranch(planning, arm, seed, value, { ...set, [tune.setting]: value }, further))
  }
  refuseSameQuestions(planning, arm, choice, branches)
  return { arm, seed, choice: choice.name, branches }
}

async function planBranch(
  planning: Planning,
  arm: string,
  seed: number,
  value: number | null,
  changes: Changes,
  further: Study['evaluations'],
): Promise<PlannedRun['branches'][number]> {
  const { steps, evaluations } = await planStages(planning, arm, seed, changes, further)
  const named = Object.entries(evaluations).map(([name, step]) => [name, step.name])
  return { value, steps: steps.map(({ name }) => name), evaluations: Object.fromEntries(named) }
}

/** Nothing is chosen on what is reported: a value that fits those questions by chance would be taken for a better one. */
function refuseSameQuestions(
  { steps, study }: Planning,
  arm: string,
  choice: Step,
  branches: PlannedRun['branches'],
): void {
  const tried = choice.needs.map((name) => steps.get(name) as Step)
  const reported = branches.flatMap(({ evaluations }) =>
    Object.values(evaluations).map((name) => steps.get(name) as Step),
  )
  if (!reported.some((one) => tried.some((other) => haveCommonQuestions(one, other)))) return
  const message = `tune.set: the trials of ${arm} may ask questions that are reported; give another evaluate.split, or other evaluate.samples`
  throw configError([{ path: ['tune', 'set'], message }], study.locate)
}

/** Samples that a step of the study makes may be those of another seed under another name: their splits alone tell. */
function haveCommonQuestions(one: Step, other: Step): boolean {
  const [samples, others] = [samplesOf(one), samplesOf(other)]
  const mayOverlap = samples === others || samples.includes('/') || others.includes('/')
  const [split, otherSplit] = [one.identity.split ?? null, other.identity.split ?? null]
  return mayOverlap && (split === otherSplit || split === null || otherSplit === null)
}

const samplesOf = ({ inputs = [], from }: Step): string =>
  from[inputs.findIndex(({ setting }) => setting === 'samples')] ?? ''

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
  const step = chooseStep(planning.root, tune, trials, planning.steps)
  return addStep(planning, step)
}

/** The steps of one run, those that no evaluation needs left out. */
async function planStages(
  planning: Planning,
  arm: string,
  seed: number,
  changes: Changes,
  further: Study['evaluations'] = {},
): Promise<{ steps: Step[]; evaluations: Record<string, Step> }> {
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
      if (rewards && artifacts.adapter) {
        const training = valueAt(tree, ['train', 'pairs']) ?? artifacts.pairs
        changed.rewardPairs = [await heldOutPairs(planning, seed, own), training]
      }
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

interface PlannedStep {
  step: Step
  makes: Artifacts
}

/** What surrounds the section of a stage in a run. */
interface Surroundings {
  tree: Tree
  artifacts: Artifacts
  arm?: string
}

function planStep(planning: Planning, stage: Stage, section: Tree, around: Surroundings): Promise<PlannedStep> {
  const { arm } = around
  const shared = Object.entries(around.tree).filter(([key]) => key in sharedSettings.shape && key !== 'output')
  // Whether a setting is without effect is told of the arm's own.
  const own = arm === undefined ? null : planning.study.arms[arm].set
  const key = JSON.stringify([stage.name, section, shared, around.artifacts, own])
  const known = planning.planned.get(key) ?? planNew(planning, stage, section, around)
  planning.planned.set(key, known)
  return known
}

async function planNew(
  { study, root, contents }: Planning,
  stage: Stage,
  section: Tree,
  { tree, artifacts, arm }: Surroundings,
): Promise<PlannedStep> {
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
