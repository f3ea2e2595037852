/** What a stage is to the runner, and what a section of the configuration needs to become one. */
import type { z } from 'zod'
import type { Locate } from '../config/load.js'
import type { KeyPath } from '../config/problems.js'
import type { Tree } from '../config/source.js'
import type { DType, EngineSpec, NativeModule } from '../engine/engine.js'

/** Where progress goes: a bar, lines, or nothing. */
export interface PipelineProgress {
  start(title: string, total: number, unit?: string): void
  update(done: number, status?: string): void
  end(summary?: string): void
  log(line: string): void
}

export interface StageContext {
  /** Asks for an orderly stop: keep what is done, resolve with `interrupted`. */
  signal?: AbortSignal
  progress: PipelineProgress
  /** An earlier run with the same inputs and settings was cut off: go on with what it left. Otherwise begin anew. */
  resume: boolean
  /** The stages before this one with their wall time, that of interrupted runs included. */
  finished: { name: string; seconds: number }[]
  /** Another implementation of the addon's interface. */
  native?: NativeModule
}

export interface StageResult {
  interrupted: boolean
  /** What came out, in a few words. */
  summary: string
}

export interface Stage {
  name: string
  /** Files and folders whose content decides the result. */
  inputs: string[]
  /** Everything else that decides it, as JSON; paths belong to `inputs`, speed to neither. */
  settings: unknown
  /** Files and folders that are there when the stage is done; hashed, so that a change of them is noticed. */
  outputs: string[]
  run(context: StageContext): Promise<StageResult>
}

/** What the stages of a pipeline have in common. */
export interface Shared {
  output: string
  model: string
  device: EngineSpec['device']
  dtype: DType
  threads: number
  seed: number
}

/** Files that stages hand on, as far as the stages planned so far make them. */
export interface Artifacts {
  /** Sample records to ask. */
  samples?: string
  /** Sample records to judge by. */
  heldOut?: string
  responses?: string
  /** Pairs to train on. */
  pairs?: string
  adapter?: string
  /** Manifest of masks of the samples' images. */
  masks?: string
  /** What the pair construction says of its pairs. */
  pairsReport?: string
  /** Folder of the training run. */
  training?: string
  /** Folder of the evaluation. */
  evaluation?: string
}

/** One section of the configuration, checked, with what stages before it made. */
export interface Section<T> {
  settings: T
  /** As given, paths absolute. */
  tree: Tree
  shared: Shared
  /** What the file itself says of it, without defaults. */
  given: Partial<Shared>
  /** Read what earlier stages make, write what this one makes. */
  artifacts: Artifacts
  /** The folder of this stage's files. */
  folder: string
  locate: Locate
  /** @throws {ConfigError} at a key of the section. */
  fail(path: KeyPath, message: string): never
}

export interface StageDefinition<S extends z.ZodType = z.ZodType> {
  /** The name of the section and of the stage. */
  section: string
  schema: S
  /** Keys of the section that hold paths. */
  paths: readonly KeyPath[]
  plan(section: Section<z.output<S>>): Stage
}

/** Ties the settings of a definition to its schema. */
export function defineStage<S extends z.ZodType>(definition: StageDefinition<S>): StageDefinition {
  return definition as unknown as StageDefinition
}
