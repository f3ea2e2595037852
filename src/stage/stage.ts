/**
 * What a stage is. It is declared once, beside the code that does the work: its settings are one schema, from which the command's
 * flags, the pipeline's section, the identity that decides whether it runs again, and the reference page derive.
 */
import type { z } from 'zod'
import type { NativeModule } from '../engine/engine.js'
import { type FireError, isAbort } from '../errors.js'
import type { Ranks } from '../ranks/ranks.js'
import { checkTree, type Locate } from '../settings/file.js'
import type { Tree } from '../settings/source.js'
import type { Progress } from './progress.js'
import { StoppedElsewhere } from './split.js'

/** What a running stage is given. */
export interface StageContext {
  /** Asks for an orderly stop: keep what is done, resolve with `interrupted` or reject. Of several ranks, any may ask all of them. */
  signal?: AbortSignal
  /** The processes that share the work of a stage that is `byRank`; default: this one alone. Their failure ends `signal` too. */
  ranks?: Ranks
  progress: Progress
  /** Go on with what an earlier run of the same settings left. */
  resume?: boolean
  /** Replace what an earlier run left; with `resume` only what that run had finished. */
  overwrite?: boolean
  /** In a pipeline: the stages before this one with their wall time, that of interrupted runs included. */
  finished?: { name: string; seconds: number }[]
  /** What goes on with it after a stop, in words that begin a sentence; default: the stage's own command. */
  again?: string
  /** Another implementation of the addon's interface. */
  native?: NativeModule
}

/** What a stage came to. */
export interface StageResult<R = unknown> {
  interrupted: boolean
  /** What came out, in a few words. */
  summary: string
  /** What came out, in numbers. */
  report?: R
  /** The stage did its work, and its result is not to be built on. */
  problem?: FireError
}

/** An input that names further files. */
export interface Naming {
  input: string
  /** Asked for when the input is there. */
  files(): Promise<string[]>
}

/** What can be told of an input before the stage runs. */
export interface Expectation {
  input: string
  /** Asked for when the input is there. @throws a `FireError` when the stage would throw it later. */
  check(): Promise<void>
}

/** Files that stages hand on. */
export interface Artifacts {
  /** Sample records to ask. */
  samples?: string
  /** Sample records to judge by. */
  heldOut?: string
  responses?: string
  /** Pairs to train on. */
  pairs?: string
  /** PEFT folder. */
  adapter?: string
  /** Manifest of masks of the samples' images. */
  masks?: string
  /** What the making of the pairs says of them. */
  pairsReport?: string
  /** metrics.jsonl of the training. */
  metrics?: string
  /** Folder of the evaluation. */
  evaluation?: string
  /** Pairs of every training. */
  trainedOn?: string[]
  /** Folders of the rounds of a pipeline that has some. */
  rounds?: string[]
}

/**
 * A stage: its settings, what it takes from earlier stages, what it leaves, and the work.
 * @typeParam T the checked settings.
 * @typeParam R what a run comes to, in numbers.
 */
export interface Stage<T = unknown, R = unknown> {
  /** Of the command, of the section and of its folder. */
  name: string
  summary: string
  settings: z.ZodType
  /** The checks beyond the schema, with presets laid under; without it the schema is all. */
  check?(tree: Tree, locate: Locate): T
  /** Settings that earlier stages fill in a pipeline, with what they are filled with. */
  takes: Readonly<Record<string, keyof Artifacts>>
  /** The setting that says where to write, and its value below the stage's folder of a pipeline ('' = the folder). */
  out: { setting: string; name: string }
  /** Files that inputs name, where their content decides the result too; asked for before a run and after it. */
  reads?(settings: T): Naming[]
  /** Cheap checks of inputs; a pipeline makes them before stages that take hours. */
  expects?(settings: T): Expectation[]
  /** What a run that ended could not do and the next one may, in words: a pipeline then goes on with what there is. */
  unfinished?(settings: T): Promise<string | undefined>
  /** What it hands on. */
  makes(settings: T): Artifacts
  /** Files and folders that are there when it is done. */
  leaves(settings: T): string[]
  /**
   * Everything that runs leave, finished or cut off, where it is more than `leaves`. A pipeline moves it aside before the stage
   * runs anew; what is named by its content, such as paid replies, is not part of it.
   */
  traces?(settings: T): string[]
  /** Keys that change nothing beside the others, for instance the engine's where a server answers. */
  ignores?(settings: T): readonly string[]
  /** Several processes may run it at once, and share the work by `StageContext.ranks`. Others are refused there. */
  byRank?: true
  /** A pipeline of several rounds runs it in each; such stages follow one another. */
  eachRound?: true
  /** Settings that the command takes by their place, in order. */
  positionals?: readonly string[]
  /** Flags of the command beside the settings: what to do about an earlier run. */
  earlier?: readonly ('resume' | 'overwrite')[]
  /** Does the work. Throw a `FireError` for what the user can mend. */
  run(settings: T, context: StageContext): Promise<StageResult<R>>
}

/** Ties the parts of a stage to its schema. */
export function defineStage<S extends z.ZodType, R, T = z.output<S>>(
  stage: Stage<T, R> & { settings: S },
): Stage<T, R> {
  return stage
}

/** @throws {ConfigError} listing every mistake with its place. */
export function checkSettings<T>(stage: Stage<T>, tree: Tree, locate: Locate): T {
  return stage.check ? stage.check(tree, locate) : (checkTree(stage.settings, tree, locate) as T)
}

/** Runs a stage whose settings are decided. An abort that its signal asked for is an interruption and no error. */
export async function runStage<R>(
  stage: { run(context: StageContext): Promise<StageResult<R>> },
  context: StageContext,
): Promise<StageResult<R>> {
  try {
    return await stage.run(context)
  } catch (error) {
    if (!isAbort(error, context.signal) && !(error instanceof StoppedElsewhere)) throw error
    return { interrupted: true, summary: '' }
  }
}
