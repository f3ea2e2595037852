/** Settings that mean something only beside another one: given without it they would do nothing, and nobody would know. */
import type { z } from 'zod'
import type { Problem } from './problems.js'
import { type Setting, settingsOf, valueAt } from './setting.js'
import type { KeyPath, Tree } from './source.js'

/**
 * A sentence for every setting that was given and does nothing beside the others.
 * @param given what somebody wrote, without defaults and without what a pipeline fills in.
 * @param settings the checked ones.
 * @param nameOf what a setting is called where it was given; default: its key.
 */
export function uselessSettings(
  schema: z.ZodType,
  given: Tree,
  settings: unknown,
  nameOf: (path: KeyPath) => string = (path) => path.join('.'),
): Problem[] {
  return settingsOf(schema).flatMap((setting) => {
    const value = valueAt(given, setting.path)
    if (!isThere(value) || value === setting.default) return []
    const condition = unmet(setting, settings, nameOf)
    return condition === undefined
      ? []
      : [{ path: setting.path, message: `${nameOf(setting.path)} has no effect ${condition}` }]
  })
}

/** What is missing, in words; undefined where the setting counts. */
function unmet({ path, meta }: Setting, settings: unknown, nameOf: (path: KeyPath) => string): string | undefined {
  const beside = (key: string): string[] => [...path.slice(0, -1), key]
  const holds = ({ key, value: wanted }: Condition): boolean => {
    const value = valueAt(settings, beside(key))
    return wanted === undefined ? isThere(value) : [value].flat().includes(wanted)
  }
  const name = (key: string): string => nameOf(beside(key))
  const needs = conditionsOf(meta.needs)
  const against = conditionsOf(meta.rulesOut).filter(holds)
  if (against.length > 0) return `with ${inWords(against, name)}`
  return needs.length === 0 || needs.some(holds) ? undefined : `without ${inWords(needs, name)}`
}

/** For references: `only with policy`. */
export function conditionOf(
  { path, meta }: Setting,
  nameOf: (setting: Pick<Setting, 'path'>) => string,
): string | undefined {
  const name = (key: string): string => nameOf({ path: [...path.slice(0, -1), key] })
  const [needs, against] = [conditionsOf(meta.needs), conditionsOf(meta.rulesOut)]
  const parts = [
    ...(needs.length > 0 ? [`only with ${inWords(needs, name)}`] : []),
    ...(against.length > 0 ? [`not with ${inWords(against, name)}`] : []),
  ]
  return parts.length > 0 ? parts.join(', ') : undefined
}

interface Condition {
  key: string
  value?: string
}

function conditionsOf(said: string | readonly string[] = []): Condition[] {
  return [said].flat().map((each) => {
    const [key, value] = each.split(': ')
    return { key, value }
  })
}

const inWords = (conditions: readonly Condition[], nameOf: (key: string) => string): string =>
  conditions.map(({ key, value }) => (value === undefined ? nameOf(key) : `${nameOf(key)} ${value}`)).join(' or ')

const isThere = (value: unknown): boolean =>
  value !== undefined && value !== null && value !== false && value !== 0 && String(value) !== ''
