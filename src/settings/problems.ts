/** Turns schema violations into sentences: where, what was expected, what was received, and the key probably meant. */
import { distance } from 'fastest-levenshtein'
import type { z } from 'zod'
import { longestName, nearest } from '../options.js'
import { withoutPasswords } from '../secrets.js'
import { keyOf, settingsOf, shapeOf, valueAt } from './setting.js'
import type { KeyPath } from './source.js'

export interface Problem {
  path: KeyPath
  message: string
}

/**
 * The sentences for every issue of a failed parse of `input`.
 * @param nameOf what a setting is called where it was given; default: its key.
 */
export function describeIssues(
  schema: z.ZodType,
  error: z.ZodError,
  input: unknown,
  nameOf: (path: KeyPath) => string = (path) => path.join('.'),
): Problem[] {
  return error.issues.flatMap((issue): Problem[] => {
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => unknownKey(schema, issue.path, key))
    }
    const received = valueAt(input, issue.path)
    const where = cut(nameOf(issue.path))
    const wanted = expectation(schema, issue)
    if (received === undefined) return [{ path: issue.path, message: `${where} is missing (${wanted})` }]
    const expected = `Expected ${wanted} for ${where}`
    if (isSecret(schema, issue.path.join('.'))) return [{ path: issue.path, message: expected }]
    const text = `${expected} but received ${shown(received)}`
    const near =
      issue.code === 'invalid_value' && typeof received === 'string'
        ? nearest(received, issue.values.map(String))
        : undefined
    return [{ path: issue.path, message: near ? `${text}; did you mean '${near}'?` : text }]
  })
}

/** Of whatever YAML can say: very long, or holding itself. JSON has no word for NaN, which is what a flag becomes that is no number. */
function shown(value: unknown): string {
  if (Number.isNaN(value)) return 'no number'
  if (typeof value !== 'object' || value === null)
    return withoutPasswords(cut(typeof value === 'string' ? JSON.stringify(value) : String(value)))
  if (!Array.isArray(value)) return 'keys and values'
  return value.every((each) => typeof each !== 'object')
    ? cut(`[${value.slice(0, 20).map(shown).join(', ')}]`)
    : 'a list'
}

const cut = (text: string): string => (text.length > longestName ? `${text.slice(0, longestName - 1)}…` : text)

const isSecret = (schema: z.ZodType, key: string): boolean =>
  settingsOf(schema).some((setting) => setting.meta.secret && keyOf(setting) === key)

function unknownKey(schema: z.ZodType, path: KeyPath, key: string): Problem {
  const full = cut([...path, key].join('.'))
  const siblings = keysAt(schema, path)
  const near = nearest(key, siblings)
  if (near)
    return { path: [...path, key], message: `Unknown key ${full}; did you mean '${[...path, near].join('.')}'?` }
  const elsewhere = settingsOf(schema).find(({ path }) => distance(path.at(-1) ?? '', key) <= 1)
  const hint = elsewhere ? `did you mean '${keyOf(elsewhere)}'?` : `the keys here are ${siblings.join(', ')}`
  return { path: [...path, key], message: `Unknown key ${full}; ${hint}` }
}

const types: Record<string, string> = {
  string: 'a text',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'keys and values',
}

function expectation(schema: z.ZodType, issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return types[issue.expected] ?? `a ${issue.expected}`
    case 'invalid_union': {
      const { choices } = settingsOf(schema).find((setting) => keyOf(setting) === issue.path.join('.')) ?? {}
      return choices && issue.message === 'Invalid input' ? `one of ${choices.join(', ')}` : issue.message
    }
    case 'invalid_value':
      return `one of ${issue.values.map((value) => `'${String(value)}'`).join(', ')}`
    case 'too_small':
      if (issue.origin === 'array') return `at least ${issue.minimum} entries`
      if (issue.origin === 'string') return 'a text that is not empty'
      return `a number ${issue.inclusive ? '>=' : '>'} ${issue.minimum}`
    case 'too_big':
      return `a number ${issue.inclusive ? '<=' : '<'} ${issue.maximum}`
    default:
      return issue.message
  }
}

function keysAt(schema: z.ZodType, path: KeyPath): string[] {
  let shape = shapeOf(schema)
  for (const key of path) shape = shape?.[String(key)] && shapeOf(shape[String(key)])
  return Object.keys(shape ?? {})
}
