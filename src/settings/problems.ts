/** Turns schema violations into sentences: where, what was expected, what was received, and the key probably meant. */
import { closest, distance } from 'fastest-levenshtein'
import type { z } from 'zod'
import { withoutPasswords } from '../secrets.js'
import { keyOf, settingsOf, shapeOf, valueAt } from './setting.js'
import type { KeyPath } from './source.js'

export interface Problem {
  path: KeyPath
  message: string
}

/** The sentences for every issue of a failed parse of `input`. */
export function describeIssues(schema: z.ZodType, error: z.ZodError, input: unknown): Problem[] {
  return error.issues.flatMap((issue): Problem[] => {
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => unknownKey(schema, issue.path, key))
    }
    const received = valueAt(input, issue.path)
    const where = issue.path.join('.')
    if (received === undefined) return [{ path: issue.path, message: `${where} is missing (${expectation(issue)})` }]
    const expected = `Expected ${expectation(issue)} for ${where}`
    if (isSecret(schema, where)) return [{ path: issue.path, message: expected }]
    const text = `${expected} but received ${shown(received)}`
    const near = issue.code === 'invalid_value' ? nearest(String(received), issue.values.map(String)) : undefined
    return [{ path: issue.path, message: near ? `${text}; did you mean '${near}'?` : text }]
  })
}

/** JSON has no word for NaN, which is what a flag becomes that is no number. */
const shown = (value: unknown): string =>
  Number.isNaN(value) ? 'no number' : withoutPasswords(JSON.stringify(value) ?? String(value))

const isSecret = (schema: z.ZodType, key: string): boolean =>
  settingsOf(schema).some((setting) => setting.meta.secret && keyOf(setting) === key)

function unknownKey(schema: z.ZodType, path: KeyPath, key: string): Problem {
  const full = [...path, key].join('.')
  const siblings = keysAt(schema, path)
  const near = nearest(key, siblings)
  if (near)
    return { path: [...path, key], message: `Unknown key ${full}; did you mean '${[...path, near].join('.')}'?` }
  const elsewhere = settingsOf(schema).find(({ path }) => distance(path.at(-1) ?? '', key) <= 1)
  const hint = elsewhere ? `did you mean '${keyOf(elsewhere)}'?` : `the keys here are ${siblings.join(', ')}`
  return { path: [...path, key], message: `Unknown key ${full}; ${hint}` }
}

/** The candidate that differs by case or punctuation only, else the closest one within a few edits, if any. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (candidates.length === 0) return undefined
  const plain = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]/g, '')
  const same = candidates.find((candidate) => plain(candidate) === plain(word))
  if (same) return same
  const best = closest(word, candidates as string[])
  const allowed = Math.min(word.length, best.length) < 4 ? 1 : Math.max(2, Math.floor(best.length / 3))
  return distance(word, best) <= allowed ? best : undefined
}

function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `${article(issue.expected)}${issue.expected === 'int' ? 'whole number' : issue.expected}`
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

function article(type: string): string {
  return /^[aeiou]/.test(type) && type !== 'int' ? 'an ' : 'a '
}

function keysAt(schema: z.ZodType, path: KeyPath): string[] {
  let shape = shapeOf(schema)
  for (const key of path) shape = shape?.[String(key)] && shapeOf(shape[String(key)])
  return Object.keys(shape ?? {})
}
