/** What the words of a text can be: every reading of every stretch of tokens, by the lists of `lexica/`. */
import { stem } from '../inflection.js'
import { type Group, groupNamed, groups, words } from '../lexicon.js'
import { ownWords } from './english.js'
import { type Token, tokenize } from './tokens.js'
import type { Feature, Lexeme } from './types.js'

interface Entry {
  forms: string[]
  kind: string
  group?: Group
  term?: string
  slot?: number
}

const entries = new Map<string, Entry[]>()

function enter(spelling: string, entry: Omit<Entry, 'forms'>): void {
  const forms = /^'s$|^n't$/.test(spelling) ? [spelling] : tokenize(spelling).map(({ form }) => form)
  entries.set(forms[0], [...(entries.get(forms[0]) ?? []), { ...entry, forms }])
}

for (const [kind, spellings] of Object.entries(words.classes)) for (const one of spellings) enter(one, { kind })
for (const group of groups) {
  for (const [term, slots] of group.terms) {
    for (const [slot, spellings] of slots.entries()) {
      for (const spelling of spellings)
        enter(spelling, { kind: group.name === 'amount' ? 'some' : 'term', group, term, slot })
    }
  }
}
for (const list of entries.values()) list.sort((a, b) => b.forms.length - a.forms.length)

/** Words that the question or the reference uses: known to mean there what they mean here. */
export type OpenWords = ReadonlySet<string>

/** By the index of their first token, longest first; an empty list is a word that nothing covers. */
export function readLexemes(tokens: readonly Token[], open: OpenWords): Lexeme[][] {
  return tokens.map((_, at) => {
    const known = entriesAt(tokens, at)
    const found = known.map((entry) => lexeme(entry, tokens, at))
    const numbers = numbersAt(tokens, at)
    return [...found, ...numbers, ...(numbers.length > 0 ? [] : openAt(tokens, at, open, known))]
  })
}

/** Spellings of the lists that begin at a token, longest first. */
function entriesAt(tokens: readonly Token[], at: number): Entry[] {
  const here = entries.get(tokens[at].form) ?? []
  return here.filter(({ forms }) => forms.every((form, index) => tokens[at + index]?.form === form))
}

function lexeme({ kind, forms, group, term, slot }: Entry, tokens: readonly Token[], at: number): Lexeme {
  const to = at + forms.length
  const place = { start: tokens[at].start, end: tokens[to - 1].end }
  const feature = group && { group: group.name, term: term as string, slot: slot as number, ...place }
  return { kind, text: forms.join(' '), from: at, to, ...(feature && { feature }) }
}

/** A word of the question or the reference that no list has; with its hyphen, when it was written with one there. */
function openAt(tokens: readonly Token[], at: number, open: OpenWords, known: readonly Entry[]): Lexeme[] {
  const { form, start, end } = tokens[at]
  const compound = tokens[at + 1]?.form === '-' && tokens[at + 2] ? `${form}-${tokens[at + 2].form}` : null
  const make = (term: string, to: number): Lexeme => {
    const feature = { group: 'word', term, slot: 0, start, end: tokens[to - 1].end }
    return { kind: 'open', text: term, from: at, to, feature }
  }
  if (compound && open.has(compound)) return [make(compound, at + 3)]
  const single = known.some(({ forms }) => forms.length === 1)
  return !single && !words.doubted.has(form) && !ownWords.has(form) && open.has(stem(form)) && end > start
    ? [make(stem(form), at + 1)]
    : []
}

const units: Readonly<Record<string, [dimension: string, factor: number]>> = {
  mm: ['length', 1],
  millimeter: ['length', 1],
  millimetre: ['length', 1],
  cm: ['length', 10],
  centimeter: ['length', 10],
  centimetre: ['length', 10],
  ml: ['volume', 1],
  l: ['volume', 1000],
  sec: ['time', 1],
  second: ['time', 1],
  min: ['time', 60],
  minute: ['time', 60],
  hour: ['time', 3600],
  '%': ['share', 1],
  degree: ['angle', 1],
  hu: ['density', 1],
}

/** Numbers, measures with their unit, ordinals and levels of the spine, as one feature each. */
function numbersAt(tokens: readonly Token[], at: number): Lexeme[] {
  const { form, start, end } = tokens[at]
  const make = (group: string, term: string, to: number, last = tokens[to - 1].end): Lexeme => ({
    ...{ kind: 'number', text: term, from: at, to },
    feature: { group, term, slot: 0, start, end: last },
  })
  const ordinal = /^(\d+)(?:st|nd|rd|th)$/.exec(form)?.[1] ?? String(words.ordinals.indexOf(form) + 1)
  if (ordinal !== '0') return [make('ordinal', ordinal, at + 1)]
  if (/^[lcs][1-9]$|^t(?:[3-9]|1[0-2])$/.test(form)) return [make('level', form, at + 1)]
  if (/^x\d$/.test(form)) return [make('number', form.slice(1), at + 1)]
  const value = amountOf(form)
  if (value === null) return []
  const product = productAt(tokens, at)
  if (product) return [make('measure', product.term, product.to)]
  const unit = unitAt(tokens, at + 1)
  if (unit) return [make('measure', `${unit.dimension} ${round(value * unit.factor)}`, at + 2, end)]
  return value < 0 ? [] : [make('number', String(value), at + 1)]
}

/** "3 x 2 cm" and "3 cm by 2 cm": the same two lengths. */
function productAt(tokens: readonly Token[], at: number): { term: string; to: number } | null {
  const values: { value: number; factor: number | null }[] = []
  let dimension: string | null = null
  let to = at
  for (let next = at; ; next = to + 1) {
    const value = amountOf(tokens[next]?.form ?? '')
    if (value === null) return null
    const unit = unitAt(tokens, next + 1)
    to = next + (unit ? 2 : 1)
    dimension = unit?.dimension ?? dimension
    values.push({ value, factor: unit?.factor ?? null })
    if (!/^(?:x|by)$/.test(tokens[to]?.form ?? '')) break
  }
  const last = values[values.length - 1].factor
  if (values.length < 2 || last === null) return null
  const sizes = values.map(({ value, factor }) => round(value * (factor ?? last))).sort((a, b) => b - a)
  return { term: `${dimension} ${sizes.join(' x ')}`, to }
}

const round = (value: number): number => Number(value.toPrecision(9))

const unitAt = (tokens: readonly Token[], at: number) => {
  const unit = units[(tokens[at]?.form ?? '').replace(/(?<=..)s$/, '')]
  return unit ? { dimension: unit[0], factor: unit[1] } : null
}

function amountOf(form: string): number | null {
  if (/^-?\d+(?:\.\d+)?$/.test(form)) return Number(form)
  const index = words.numbers.indexOf(form)
  return index < 0 ? null : index
}

/** The features of a text word by word, longest terms first, whatever the sentence says; and what is none. */
export function scan(text: string): { features: Feature[]; rest: string[] } {
  const tokens = tokenize(text)
  const lexemes = readLexemes(tokens, openWordsOf(text))
  const features: Feature[] = []
  const rest: string[] = []
  for (let at = 0; at < tokens.length; ) {
    const longest = Math.max(...lexemes[at].map(({ to }) => to))
    const whole = lexemes[at].filter(({ to }) => to === longest)
    const best = whole.find(({ feature }) => feature) ?? whole[0]
    if (best?.feature && best.feature.term !== '') features.push(best.feature)
    else rest.push(best?.text ?? tokens[at].form)
    at = best?.to ?? at + 1
  }
  return { features, rest }
}

/** The words of texts that no list has, for `OpenWords`. */
export function openWordsOf(...texts: string[]): Set<string> {
  const found = new Set<string>()
  for (const text of texts) {
    const tokens = tokenize(text)
    for (let at = 0; at < tokens.length; at++) {
      const { form } = tokens[at]
      const [known] = entriesAt(tokens, at)
      if (!known && /^\p{L}[\p{L}\p{M}\p{N}]+$/u.test(form)) found.add(stem(form))
      if (!known && tokens[at + 1]?.form === '-' && tokens[at + 2]) found.add(`${form}-${tokens[at + 2].form}`)
      at += (known?.forms.length ?? 1) - 1
    }
  }
  return found
}

export const roleOf = (feature: Feature): string => groupNamed(feature.group)?.role ?? feature.group
