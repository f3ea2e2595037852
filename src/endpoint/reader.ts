/**
 * The one reader of structured replies. Models think aloud, draft, wrap objects in prose and fences, say the same twice or
 * two things, and are cut off. What counts is the last complete object of the schema after the reasoning; a reply that says
 * two things, or does not end, says nothing.
 */
// Quotes, commas, comments and Python constants in all their variants: nothing to write again.
import { jsonrepair } from 'jsonrepair'
import type { z } from 'zod'
import { fromJson } from '../secrets.js'
import { afterReasoning, openReasoning } from './reasoning.js'
import type { Reply } from './request.js'

/** What a reply says and what stands around that, or in words for its writer why it says nothing. */
export type ReadReply<T> = { value: T; around: string; problem: null } | { value: null; problem: string }

/** More opening braces than this are not tried; a reply of the schemas asked for has a handful. */
const MOST_OBJECTS = 200

/**
 * Reads the last complete object of a schema from a reply, after the reasoning.
 * @param agree what two objects of the schema must have in common to say the same; default: everything.
 * @returns the object, or what is wrong with the reply in words that its writer can be told.
 */
export function readStructured<S extends z.ZodType>(
  { content, finishReason }: Pick<Reply, 'content' | 'finishReason'>,
  schema: S,
  agree: (value: z.output<S>) => unknown = (value) => value,
): ReadReply<z.output<S>> {
  const unreadable = (problem: string): ReadReply<z.output<S>> => ({ value: null, problem })
  if (finishReason === 'length') return unreadable('it was cut off')
  if (finishReason === 'content_filter') return unreadable('it was withheld by a filter')
  if (content.trim() === '') return unreadable('it is empty')
  const said = afterReasoning(content)
  if (openReasoning.test(said)) return unreadable('its reasoning does not end')
  const { objects, around, isOpen } = objectsIn(said, (object) => schema.safeParse(object).success)
  const fitting: z.output<S>[] = []
  let mismatch = 'it holds no complete JSON object'
  for (const object of objects) {
    const parsed = schema.safeParse(object)
    if (parsed.success) fitting.push(parsed.data)
    else {
      const issues = parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'the object'}: ${message}`)
      mismatch = issues.slice(0, 3).join('; ')
    }
  }
  if (fitting.length === 0) return unreadable(mismatch)
  if (isOpen) return unreadable('an object in it does not end')
  const last = fitting[fitting.length - 1]
  const meaning = (value: z.output<S>) => JSON.stringify(agree(value))
  if (fitting.some((other) => meaning(other) !== meaning(last))) return unreadable('it holds objects that disagree')
  return { value: last, around, problem: null }
}

/**
 * The objects that stand in a text, in order, the text without those that fit, and whether one that begins after them does not end.
 * Of an object that does not fit, those inside that do: braces of prose hold objects, and models wrap what they were asked for.
 */
function objectsIn(
  text: string,
  fits: (object: unknown) => boolean,
): { objects: unknown[]; around: string; isOpen: boolean } {
  const objects: unknown[] = []
  let around = ''
  let copied = 0
  let isOpen = false
  let tried = 0
  let outerEnd = -1
  for (let at = text.indexOf('{'); at >= 0 && tried < MOST_OBJECTS; tried++) {
    const end = closingBrace(text, at)
    const object = end < 0 ? undefined : parseNear(text.slice(at, end + 1))
    const isFit = object !== undefined && fits(object)
    if (object !== undefined && (isFit || at > outerEnd)) objects.push(object)
    // A brace of prose may open what never closes; only one that looks like an object counts as cut off.
    isOpen = end < 0 ? isOpen || /^\{\s*["'“]?\w/.test(text.slice(at, at + 40)) : object === undefined && isOpen
    if (object !== undefined && !isFit) outerEnd = Math.max(outerEnd, end)
    if (isFit) {
      around += `${text.slice(copied, at)} `
      copied = end + 1
    }
    at = text.indexOf('{', isFit ? end + 1 : at + 1)
  }
  return { objects, around: around + text.slice(copied), isOpen }
}

/** An object of JSON, or of what is nearly JSON; undefined for prose in braces and for keys that are given twice. */
function parseNear(text: string): unknown {
  for (const parse of [fromJson, (near: string) => fromJson(jsonrepair(near))]) {
    try {
      const value: unknown = parse(text)
      const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
      return isObject && Object.keys(value).length === countKeys(text) ? value : undefined
    } catch {
      // The next one, or nothing.
    }
  }
  return undefined
}

/** Where the object that opens at `start` closes, strings passed over; -1 when it never does. */
function closingBrace(text: string, start: number): number {
  let depth = 0
  for (const { at, character } of structureOf(text, start)) {
    if (character === '{' || character === '[') depth++
    else if ((character === '}' || character === ']') && --depth === 0) return at
  }
  return -1
}

/** Keys of the outermost object: JSON.parse keeps the last of two that have one name, and says nothing. */
function countKeys(text: string): number {
  let depth = 0
  let keys = 0
  for (const { character } of structureOf(text, 0)) {
    if (character === '{' || character === '[') depth++
    else if (character === '}' || character === ']') depth--
    else if (character === ':' && depth === 1) keys++
  }
  return keys
}

/** Braces, brackets and colons outside of strings. */
function* structureOf(text: string, start: number): Generator<{ at: number; character: string }> {
  let inString = false
  for (let at = start; at < text.length; at++) {
    const character = text[at]
    if (character === '\\') at++
    else if (character === '"') inString = !inString
    else if (!inString && /[{}[\]:]/.test(character)) yield { at, character }
  }
}
