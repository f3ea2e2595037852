/**
 * Published recipes, one file a backbone: models/NAME.yaml, in the format of a training configuration. `preset: NAME` puts one
 * under a configuration: flag over file over preset over default.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pathsOf } from '../settings/setting.js'
import { isTree, joinTrees, parseSource, type Source, type Tree } from '../settings/source.js'
import { coefficientNames, objectiveNames, objectives } from './objectives.js'
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
 * Without the coefficients that the objective of `tree` does not use: refusing them is right for what somebody wrote down for
 * this run, and a preset was not.
 */
function forObjective(preset: Tree, tree: Tree): Tree {
  const name = isTree(tree.objective)
    ? objectiveNames.find((known) => known === (tree.objective as Tree).name)
    : undefined
  if (!name || !isTree(preset.objective)) return preset
  const unused = coefficientNames.filter((coefficient) => !objectives[name].uses.includes(coefficient))
  const kept = Object.entries(preset.objective).filter(([key]) => !unused.some((coefficient) => coefficient === key))
  return { ...preset, objective: Object.fromEntries(kept) }
}
