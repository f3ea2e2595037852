/** The word lists of `lexica/`, compiled: which terms a text mentions, and what may stand in their place. */
import { readFileSync } from 'node:fs'

// The folder of the package, not of the source: tsc copies no JSON, and both src/ and dist/ lie beside it.
const folder = new URL('../../../lexica/', import.meta.url)

interface GroupFile {
  groups: {
    name: string
    category: string
    /** Terms that may stand together, as findings do; two terms of any other group contradict each other. */
    compatible?: boolean
    terms: Record<string, string[]>
    prefer?: Record<string, string[]>
    notBefore?: string[]
    notAfter?: string[]
  }[]
}

export interface Group {
  name: string
  category: string
  compatible: boolean
  /** Slots of a term, each with its spellings; the first one is written. */
  terms: ReadonlyMap<string, readonly (readonly string[])[]>
  /** Terms that may take the place of one, the likeliest first. */
  partners(term: string): readonly string[]
}

/** A term where it stands in a text. */
export interface Mention {
  group: Group
  term: string
  slot: number
  start: number
  end: number
}

interface Entry {
  group: Group
  term: string
  slot: number
  notBefore: ReadonlySet<string>
  notAfter: ReadonlySet<string>
}

const load = <T>(name: string): T => JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as T

const entries = new Map<string, Entry[]>()

/** Every group, in the order of the file. */
export const groups: readonly Group[] = load<GroupFile>('groups.json').groups.map((definition) => {
  const { name, category, compatible = false, prefer = {} } = definition
  const terms = new Map(
    Object.entries(definition.terms).map(([term, slots]) => [
      term,
      slots.map((slot) => slot.split('|').filter(Boolean)),
    ]),
  )
  const others = (term: string) => [...terms.keys()].filter((other) => other !== term)
  const group: Group = { name, category, compatible, terms, partners: (term) => prefer[term] ?? others(term) }
  const notBefore = new Set(definition.notBefore)
  const notAfter = new Set(definition.notAfter)
  for (const [term, slots] of terms) {
    for (const [slot, spellings] of slots.entries()) {
      for (const spelling of spellings) {
        const key = spelling.toLowerCase()
        entries.set(key, [...(entries.get(key) ?? []), { group, term, slot, notBefore, notAfter }])
      }
    }
  }
  return group
})

const quoted = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
/** Longest spellings first; a hyphen on either side makes another word. */
const pattern = new RegExp(
  `(?<![\\p{L}\\p{N}-])(?:${[...entries.keys()]
    .sort((a, b) => b.length - a.length)
    .map((spelling) => quoted(spelling).replace(/ /g, '\\s+'))
    .join('|')})(?![\\p{L}\\p{N}]|-\\p{L})`,
  'giu',
)

/** The terms of a text in order; a spelling of two groups counts for the first whose neighbours allow it. */
export function findMentions(text: string): Mention[] {
  return [...text.matchAll(pattern)].flatMap((match) => {
    const start = match.index
    const end = start + match[0].length
    const before = /([\p{L}\p{N}-]+)\s*$/u.exec(text.slice(0, start))?.[1].toLowerCase() ?? ''
    const after = /^\s*([\p{L}\p{N}-]+)/u.exec(text.slice(end))?.[1].toLowerCase() ?? ''
    const key = match[0].toLowerCase().replace(/\s+/g, ' ')
    const entry = entries.get(key)?.find(({ notBefore, notAfter }) => !notBefore.has(after) && !notAfter.has(before))
    return entry ? [{ group: entry.group, term: entry.term, slot: entry.slot, start, end }] : []
  })
}

interface GrammarFile {
  stopWords: string
  genericWords: string
  massNouns: string
  pluralNouns: string
  singularNouns: string
  verbs: string
  participles: string
  vowelSoundExceptions: string
  numbers: string[]
  quantifiers: string
  opposites: [string, string][]
  units: string
  dependent: string
}

const file = load<GrammarFile>('grammar.json')
const set = (list: string): ReadonlySet<string> => new Set(list.split(' '))

/** The word lists of grammar.json. */
export const grammar = {
  stopWords: set(file.stopWords),
  genericWords: set(file.genericWords),
  massNouns: set(file.massNouns),
  pluralNouns: set(file.pluralNouns),
  singularNouns: set(file.singularNouns),
  verbs: set(file.verbs),
  participles: set(file.participles),
  vowelSoundExceptions: set(file.vowelSoundExceptions),
  numbers: file.numbers,
  quantifiers: set(file.quantifiers),
  /** Words of opposite meaning, for questions that an answer turns around. */
  opposites: file.opposites.map(([one, other]) => [set(one), set(other)] as const),
  units: set(file.units),
  dependent: set(file.dependent),
}
