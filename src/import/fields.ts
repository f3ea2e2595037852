/** Typed access to the fields of one record. What is mended on the way is noted, what cannot be is a reason. */
import { isUtf8 } from 'node:buffer'
import { nearest } from '../options.js'
import { LeftOut } from './draft.js'

export type Notes = (kind: string) => void

/** Of a record, that are looked at for one that is misspelt. */
const mostNames = 64

/** Texts that stand for "nothing" in the published files. */
const nothing = new Set(['', 'NULL'])

export class Fields {
  readonly record: Readonly<Record<string, unknown>>
  readonly #note: Notes

  constructor(value: unknown, note: Notes) {
    if (value === null || typeof value !== 'object' || Array.isArray(value)) {
      throw new LeftOut('not_an_object', `expected an object, found ${kindOf(value)}`)
    }
    this.record = value as Record<string, unknown>
    this.#note = note
  }

  has(key: string): boolean {
    return this.get(key) !== undefined
  }

  /** An own field, `null` read as absent. */
  get(key: string): unknown {
    return Object.hasOwn(this.record, key) ? (this.record[key] ?? undefined) : undefined
  }

  /** The first of these keys that is there; that others are there too and say something else is noted. */
  key(...keys: string[]): string {
    const [found, ...others] = keys.filter((key) => this.has(key))
    if (found === undefined) throw new LeftOut('missing_field', `${keys.join(' or ')} is missing${this.#meant(keys)}`)
    for (const other of others) if (this.get(other) !== this.get(found)) this.#note(`${other}_beside_${found}`)
    return found
  }

  #meant(keys: readonly string[]): string {
    const names = Object.keys(this.record)
      .slice(0, mostNames)
      .filter((name) => !keys.includes(name))
    const near = keys.map((key) => nearest(key, names)).find((name) => name !== undefined)
    return near === undefined ? '' : `; there is "${near}": did you mean ${keys[0]}?`
  }

  /** A text that must say something. A number becomes its digits: answers such as 4 are published unquoted. */
  text(...keys: string[]): string {
    const key = this.key(...keys)
    const text = tidy(this.#scalar(key), this.#note)
    if (text === '') throw new LeftOut('empty_text', `${key} is empty`)
    return text
  }

  /** The answer of a published set, kept even where it is empty, so that counts are those that papers print. */
  answer(key = 'answer'): string {
    const text = tidy(this.#scalar(this.key(key)), this.#note)
    if (text === '') this.#note('empty_answer')
    return text
  }

  /** An identifier: a text or a number, as the files happen to have it. */
  id(...keys: string[]): string {
    const key = this.key(...keys)
    const value = this.get(key)
    return typeof value === 'number' ? String(value) : this.text(key)
  }

  /** The same as it stands, spaces and lines included: texts of one's own and reports. */
  verbatim(...keys: string[]): string {
    const key = this.key(...keys)
    const text = this.#scalar(key)
    if (text.trim() === '') throw new LeftOut('empty_text', `${key} is empty`)
    return text
  }

  /** A text that may be absent, empty or the word NULL: then `undefined`. */
  optional(key: string): string | undefined {
    if (!this.has(key)) return undefined
    const text = this.#scalar(key).trim()
    return nothing.has(text) ? undefined : text
  }

  /** `CLOSED` or `OPEN` in any case and with spaces around; for another word what to say where a rule needs it. */
  closed(key = 'answer_type'): boolean | LeftOut | undefined {
    const value = this.get(key)
    const text = typeof value === 'string' ? this.optional(key) : value
    if (text === undefined) return undefined
    const word = String(text).toLowerCase()
    if (word !== 'closed' && word !== 'open') {
      return new LeftOut('wrong_type', `${key}: expected CLOSED or OPEN, found ${JSON.stringify(text)}`)
    }
    if (text !== value) this.#note('answer_type_spaces')
    return word === 'closed'
  }

  /** A number that may be absent. */
  number(key: string): number | undefined {
    const value = this.get(key)
    if (value === undefined) return undefined
    if (typeof value !== 'number') throw new LeftOut('wrong_type', `${key}: expected a number, found ${kindOf(value)}`)
    return value
  }

  /** A list of texts; one text counts as a list of it. */
  texts(key: string): string[] {
    const value = this.get(key)
    const list = Array.isArray(value) ? value : [value]
    const wrong = list.find((item) => typeof item !== 'string')
    if (wrong === undefined && list.length > 0 && !list.includes(undefined)) return list
    throw new LeftOut('wrong_type', `${key}: expected a list of texts, found ${kindOf(wrong ?? value)}`)
  }

  /** Every field that `known` does not name; of bytes, which JSON cannot hold, their number. */
  rest(known: readonly string[]): Record<string, unknown> {
    const others = Object.entries(this.record).filter(([key]) => !known.includes(key))
    return Object.fromEntries(others.map(([key, value]) => [key, withoutBytes(value)]))
  }

  note(kind: string): void {
    this.#note(kind)
  }

  #scalar(key: string): string {
    const value = this.get(key)
    if (typeof value === 'string') return value
    // A text column of parquet that is not marked as one.
    if (value instanceof Uint8Array && isUtf8(value)) {
      this.#note('bytes_as_text')
      return Buffer.from(value).toString()
    }
    if (typeof value === 'number') {
      this.#note('number_as_text')
      return String(value)
    }
    throw new LeftOut('wrong_type', `${key}: expected text, found ${kindOf(value)}`)
  }
}

/** Without spaces at its ends. */
export function trimmed(text: string, note: Notes): string {
  const inner = text.trim()
  if (inner.length !== text.length) note('outer_spaces')
  return inner
}

/** Without spaces at its ends, on one line. */
export function tidy(text: string, note: Notes): string {
  if (text.includes('\ufffd')) note('replacement_character')
  const inner = trimmed(text, note)
  const line = inner.replace(/[\t\r\n ]+/g, (run) => (/[\t\r\n]/.test(run) ? ' ' : run))
  if (line !== inner) note('inner_tabs_or_lines')
  return line
}

/** Of bytes, which JSON cannot hold, their number. */
function withoutBytes(value: unknown): unknown {
  if (value instanceof Uint8Array) return `${value.length} bytes`
  if (Array.isArray(value)) return value.map(withoutBytes)
  if (value === null || typeof value !== 'object' || value instanceof Date) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withoutBytes(item)]))
}

export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return 'nothing'
  if (value instanceof Uint8Array) return `${value.length} bytes`
  return Array.isArray(value) ? 'a list' : typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
