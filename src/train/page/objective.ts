/** The objective of a run as pages name it. */
import { type ObjectiveTraits, objectives, usedCoefficients } from '../../engine/objectives.js'
import type { TrainConfig } from '../settings.js'

/** What was trained with, and the coefficients that its formula reads. */
export interface ShownObjective {
  name: string
  scope: 'phrase' | 'completion'
  coefficients: Record<string, string | number>
}

export function shownObjective({ objective }: TrainConfig): ShownObjective {
  const { name, scope } = objective
  const used = usedCoefficients(name).map((key) => [key, objective[key] ?? objectives[name].coefficients[key]])
  return { name, scope: scope ?? objectives[name].scope, coefficients: Object.fromEntries(used) }
}

/** Undefined for an objective that this version does not know. */
export function traitsOf(name: string): ObjectiveTraits | undefined {
  return Object.hasOwn(objectives, name) ? objectives[name as keyof typeof objectives] : undefined
}

/** Objectives under the names of their papers. */
export const objectiveName = (name: string): string => (name === 'fire' ? 'FiRe-MPO' : name)
