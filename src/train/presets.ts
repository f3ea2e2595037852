/**
 * Published recipes, one file a backbone: models/NAME.yaml, in the format of a training configuration. `preset: NAME` puts one
 * under a configuration: flag over file over preset over default.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { coefficientNames, objectiveNames } from '../engine/objectives.js'
import { pathsOf } from '../settings/setting.js'
import { isTree, joinTrees, parseSource, type Source, type Tree } from '../settings/source.js'
import { trainSettings } from './settings.js'

const folder = fileURLToPath(new URL('../../models', import.meta.url))

export function presetNames(): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => name.slice(0, -'.yaml'.length))
    .sort()
}

/** `undefined` when there is none of this name. */
export function readPreset(name: string): Source | undefined {
  if (!presetNames().includes(name)) return undefined
  const path = join(folder, `${name}.yaml`)
  return parseSource(path, readFileSync(path, 'utf8'), pathsOf(trainSettings))
}

/** The settings of `tree` on those of the preset: sections are joined key by key, everything else is replaced. */
export function layOver(preset: Tree, tree: Tree): Tree {
  return joinTrees(forObjective(preset, tree), tree)
}

/**
 * Without coefficients where `tree` has another objective: those of a preset belong to its own, and the same name means something
 * else elsewhere (gamma of simpo). The other one has its published values.
 */
function forObjective(preset: Tree, tree: Tree): Tree {
  const name = isTree(tree.objective)
    ? objectiveNames.find((known) => known === (tree.objective as Tree).name)
    : undefined
  if (!name || !isTree(preset.objective) || name === preset.objective.name) return preset
  const kept = Object.entries(preset.objective).filter(([key]) => !coefficientNames.some((known) => known === key))
  return { ...preset, objective: Object.fromEntries(kept) }
}
