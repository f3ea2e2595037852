/** The file of a pipeline: what all stages share, and one section a stage. */
import { join } from 'node:path'
import { z } from 'zod'
import { isWithin } from '../data/files.js'
import { compute, count, inputPath, outputPath, seed, shared, text } from '../settings/common.js'
import { checkTree, configError, type Locate, readSettings, refuseUseless } from '../settings/file.js'
import { identityOf, isUnder, pathsOf, settingsOf, setValueAt, valueAt } from '../settings/setting.js'
import { isTree, type Tree } from '../settings/source.js'
import {
  type Artifacts,
  checkSettings,
  type Expectation,
  type Naming,
  type Stage,
  type StageContext,
  type StageResult,
} from '../stage/stage.js'
import { addArtifacts, handedOn, madeAnew, roundName, seedStep, turnsOf } from './rounds.js'
import { stages as allStages } from './stages.js'

/** `output` and `rounds` are the pipeline's own; stages that have a setting of another name, and no value of their own, take it. */
export const sharedSettings = z.strictObject({
  output: text.meta(outputPath('Folder for the results: one folder for each stage, and pipeline.json')),
  model: text.optional().meta(inputPath('Model folder: the model that is sampled, trained and evaluated')),
  ...compute,
  ...shared,
  seed: seed.meta({ description: 'Seed of every stage that does not set its own' }),
  rounds: count.optional().meta({
    description:
      'How often the model is sampled and trained, each time from the adapter of the time before, in folders round-1, round-2, …; default: once, without such a folder',
  }),
})

/** A file or folder whose content decides a result, and the setting that names it. */
export interface Input {
  setting: string
  path: string
}

/** A path that must be there when a stage runs: an input, or a folder that names are looked up below. */
export interface GivenPath extends Input {
  /** `file:line` */
  place: string | undefined
}

/** A stage with everything decided. */
export interface PlannedStage {
  name: string
  /** Where it writes. */
  folder: string
  inputs: Input[]
  given: GivenPath[]
  /** What is checked of inputs before anything runs, as soon as they are there. */
  expects: Expectation[]
  /** Files that the inputs name; asked for when the inputs are there. */
  reads: Naming[]
  /** What its last run left undone, in words. */
  unfinished?(): Promise<string | undefined>
  /** Everything else that decides it. */
  identity: Record<string, unknown>
  /** Hashed when it is done, so that a change of them is noticed. */
  outputs: string[]
  /** Moved to `earlier/` before it runs anew. */
  traces: string[]
  /** What it hands on. */
  makes: Artifacts
  /** Runs it without asking whether it must. */
  run(context: StageContext): Promise<StageResult>
}

/** The stages of a file, in the order they run, and the folder they write to. */
export interface Pipeline {
  output: string
  stages: PlannedStage[]
}

/** The schema of the whole file. */
export function pipelineSchema(stages: readonly Stage[] = allStages): z.ZodObject {
  return sharedSettings.extend(Object.fromEntries(stages.map(({ name, settings }) => [name, settings.optional()])))
}

/**
 * Reads a pipeline's file and plans its stages; nothing is computed or written.
 * @throws {ConfigError} listing every mistake of a section, with its place.
 */
export async function loadPipeline(
  path: string,
  overrides: readonly string[] = [],
  known: readonly Stage[] = allStages,
): Promise<Pipeline> {
  const { tree, locate } = await readSettings(path, overrides, pathsOf(pipelineSchema(known)))
  // `report:` with nothing below it is a section without settings.
  for (const { name } of known) if (tree[name] === null) tree[name] = {}
  const isSection = (key: string): boolean => known.some(({ name }) => name === key)
  const sections = Object.fromEntries(known.map(({ name }) => [name, z.looseObject({}).optional()]))
  checkTree(sharedSettings.extend(sections), tree, locate())
  const output = tree.output as string
  const present = known.filter(({ name }) => isTree(tree[name]))
  if (present.length === 0) {
    const message = `There is no stage; give at least one of ${known.map(({ name }) => name).join(', ')}`
    throw configError([{ path: [], message }], locate())
  }
  // What the file leaves to defaults is left to those of the stage and its preset.
  const own = ['output', 'rounds']
  const common = Object.fromEntries(Object.entries(tree).filter(([key]) => !isSection(key) && !own.includes(key)))
  // Of stages that take it: what one of them has a use for has an effect.
  const used = Object.assign({}, ...present.map(({ name }) => tree[name]), common)
  refuseUseless(sharedSettings, common, used, locate())
  const rounds = tree.rounds as number | undefined
  const folders = Array.from({ length: rounds ?? 0 }, (_, i) => join(output, roundName(i + 1)))
  const artifacts: Artifacts = rounds === undefined ? {} : { rounds: folders }
  const planned = turnsOf(present, rounds).map(({ stage, round, name }) => {
    // What only later rounds have a use for is no mistake in the first.
    const meant = round !== undefined && round !== rounds ? {} : undefined
    const place = { common, artifacts, folder: join(output, name), locate: locate([stage.name]), round, meant }
    const made = { ...planStage(stage, tree[stage.name] as Tree, place), name }
    addArtifacts(artifacts, made.makes)
    return made
  })
  if (rounds === undefined || artifacts.adapter !== undefined) return { output, stages: planned }
  const message = 'rounds: no stage makes an adapter, which the next round would be sampled from; add the section train'
  throw configError([{ path: ['rounds'], message }], locate())
}

/** What surrounds the section of a stage. */
export interface SectionPlace {
  /** Settings that all stages share. */
  common: Tree
  /** What the stages before make. */
  artifacts: Artifacts
  /** Where the stage writes. */
  folder: string
  locate: Locate
  /** The part of the section that must not be without effect; default: all of it. */
  meant?: Tree
  /** From 1; undefined for a stage that runs once. */
  round?: number
}

/**
 * Decides everything about one stage; nothing is computed or written.
 * @param own its section. @throws {ConfigError} listing every mistake, with its place.
 */
export function planStage(
  stage: Stage,
  own: Tree,
  { common, artifacts, folder, locate, meant = own, round }: SectionPlace,
): PlannedStage {
  const out = stage.out.setting
  const fail = (key: string, message: string): never => {
    throw configError([{ path: key.split('.'), message: `${stage.name}.${key} ${message}` }], locate)
  }
  if (own[out] !== undefined) fail(out, 'is for the command line; a pipeline chooses it')
  const keys = settingsOf(stage.settings)
  const tree: Tree = {
    ...Object.fromEntries(Object.entries(common).filter(([key]) => keys.some(({ path }) => path[0] === key))),
    ...structuredClone(own),
    [out]: join(folder, stage.out.name),
  }
  for (const [key, artifact] of Object.entries(stage.takes)) {
    const path = key.split('.')
    const isGiven = valueAt(tree, path) !== undefined
    if (isGiven && round !== undefined && madeAnew.has(artifact)) fail(key, 'is made anew in every round; leave it out')
    if (isGiven && !(round !== undefined && round > 1 && handedOn.has(artifact))) continue
    const setting = keys.find((each) => each.path.join('.') === key)
    if (artifacts[artifact] !== undefined) setValueAt(tree, path, artifacts[artifact])
    else if (setting?.required === 'always') fail(key, `is missing: no stage before makes ${artifact}`)
  }
  const first = checkSettings(stage, tree, locate)
  const settings = round === undefined ? first : checkSettings(stage, { ...tree, ...seedOf(first, round) }, locate)
  refuseUseless(stage.settings, meant, settings, locate)
  const ignored = stage.ignores?.(settings) ?? []
  const pathsIn = (kind: 'input' | 'root'): GivenPath[] =>
    pathsOf(stage.settings, kind)
      .filter((keys) => !isUnder(keys, ignored))
      .flatMap((keys) => {
        const paths = [(valueAt(settings, keys) as string | string[] | null | undefined) ?? []].flat()
        return paths.map((path) => ({ setting: keys.join('.'), path, place: locate(keys) }))
      })
  const read = pathsIn('input').map(({ setting, path }): Input => ({ setting, path }))
  const traces = stage.traces?.(settings) ?? stage.leaves(settings)
  for (const { setting, path } of read) {
    if (!traces.some((trace) => isWithin(path, trace))) continue
    fail(
      setting,
      `is ${path}, which this stage makes: it would be moved to earlier/ before the stage reads it; name a copy elsewhere`,
    )
  }
  return {
    name: stage.name,
    folder,
    inputs: read,
    given: [...pathsIn('input'), ...pathsIn('root')],
    expects: stage.expects?.(settings) ?? [],
    reads: stage.reads?.(settings) ?? [],
    unfinished: stage.unfinished && (async () => stage.unfinished?.(settings)),
    identity: identityOf(stage.settings, settings as object, ignored),
    outputs: stage.leaves(settings),
    traces,
    makes: stage.makes(settings),
    run: (context) => stage.run(settings, context),
  }
}

/** A stage draws anew in every round. */
function seedOf(settings: unknown, round: number): Tree {
  const { seed: first } = settings as { seed?: unknown }
  return typeof first === 'number' ? { seed: first + seedStep * (round - 1) } : {}
}
