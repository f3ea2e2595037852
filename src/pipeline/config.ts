/** The file of a pipeline: what all stages share, and one section a stage. */
import { join } from 'node:path'
import { z } from 'zod'
import { configError, readSettings } from '../config/load.js'
import { describeIssues } from '../config/problems.js'
import { isTree, type Tree } from '../config/source.js'
import { type Device, deviceNames, isDevice } from '../engine/engine.js'
import type { Artifacts, Shared, Stage, StageDefinition } from './stage.js'
import { definitions } from './stages/index.js'

const shared = {
  /** Receives one folder a stage, and pipeline.json. */
  output: z.string().min(1),
  /** Checkpoint folder that is asked, trained and judged. */
  model: z.string().min(1),
  device: z.custom<Device>(isDevice, deviceNames).default('cpu'),
  dtype: z.enum(['f32', 'bf16']).default('f32'),
  /** 0 = all; no result depends on it. */
  threads: z.number().int().nonnegative().default(0),
  /** Of every stage that does not set its own. */
  seed: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER).default(42),
}

export interface Pipeline {
  output: string
  stages: Stage[]
}

/**
 * Reads a pipeline's file and plans its stages; nothing is computed or written.
 * @throws {ConfigError} listing every mistake of the file, or the first of a section, with its place.
 */
export async function loadPipeline(
  path: string,
  overrides: readonly string[] = [],
  known: readonly StageDefinition[] = definitions,
): Promise<Pipeline> {
  const sections = Object.fromEntries(known.map(({ section, schema }) => [section, schema.optional()]))
  const schema = z.strictObject({ ...shared, ...sections })
  const paths = [['output'], ['model'], ...known.flatMap((each) => each.paths.map((key) => [each.section, ...key]))]
  const { tree, locate } = await readSettings(path, overrides, paths)
  const parsed = schema.safeParse(tree)
  if (!parsed.success) throw configError(describeIssues(schema, parsed.error, tree), locate())
  const common = parsed.data as unknown as Shared
  const artifacts: Artifacts = {}
  const stages = known
    .filter(({ section }) => isTree(tree[section]))
    .map((definition) => {
      const { section } = definition
      return definition.plan({
        settings: (parsed.data as Tree)[section],
        tree: tree[section] as Tree,
        shared: common,
        given: Object.fromEntries(Object.keys(shared).flatMap((key) => (key in tree ? [[key, tree[key]]] : []))),
        artifacts,
        folder: join(common.output, section),
        locate: locate([section]),
        fail(key, message) {
          throw configError([{ path: [section, ...key], message }], locate())
        },
      })
    })
  if (stages.length === 0) {
    const message = `There is no stage; give at least one of ${known.map(({ section }) => section).join(', ')}`
    throw configError([{ path: [], message }], locate())
  }
  return { output: common.output, stages }
}
