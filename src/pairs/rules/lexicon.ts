/** The word lists of `lexica/`: terms by group, words by class, and what inflection needs. */
import { readFileSync } from 'node:fs'

// The folder of the package, not of the source: tsc copies no JSON, and both src/ and dist/ lie beside it.
const folder = new URL('../../../lexica/', import.meta.url)
const load = <T>(name: string): T => JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as T

interface GroupFile {
  groups: {
    name: string
    category: string
    role: string
    compatible?: boolean
    binary?: boolean
    terms: Record<string, string[]>
    prefer?: Record<string, string[]>
    near?: string[][]
    nearAll?: string[]
    implies?: Record<string, string[]>
    means?: Record<string, string[]>
    inside?: Record<string, string[]>
    fixedBefore?: string[]
    fixedAfter?: string[]
  }[]
}

export interface Group {
  name: string
  category: string
  /** What the terms do in a phrase: `organ`, `finding`, `place`, `degree`, `state` and so on. */
  role: string
  /** Several terms may hold at once. */
  compatible: boolean
  /** What is not the one term is the other. */
  binary: boolean
  /** Slots of a term, each with its spellings; the first one is written. */
  terms: ReadonlyMap<string, readonly (readonly string[])[]>
  /** Terms that may take the place of one, the likeliest first. */
  partners(term: string): readonly string[]
  /** Two terms that neither agree nor contradict. */
  isNear(a: string, b: string): boolean
  /** `group term` of what a term says besides, or says in other words. */
  implies: ReadonlyMap<string, readonly string[]>
  means: ReadonlyMap<string, readonly string[]>
  /** Findings that an organ does not have when it is clear. */
  inside: ReadonlyMap<string, readonly string[]>
  fixedBefore: ReadonlySet<string>
  fixedAfter: ReadonlySet<string>
}

const mapOf = <T>(record: Record<string, T> = {}): ReadonlyMap<string, T> => new Map(Object.entries(record))

/** Every group, in the order of the file. */
export const groups: readonly Group[] = load<GroupFile>('groups.json').groups.map((definition) => {
  const { name, category, role, compatible = false, binary = false, prefer = {}, near = [], nearAll = [] } = definition
  const terms = new Map(
    Object.entries(definition.terms).map(([term, slots]) => [
      term,
      slots.map((slot) => slot.split('|').filter(Boolean)),
    ]),
  )
  const others = (term: string) => [...terms.keys()].filter((other) => other !== term)
  return {
    ...{ name, category, role, compatible, binary, terms },
    partners: (term) => prefer[term] ?? others(term),
    isNear: (a, b) =>
      nearAll.includes(a) || nearAll.includes(b) || near.some((list) => list.includes(a) && list.includes(b)),
    implies: mapOf(definition.implies),
    means: mapOf(definition.means),
    inside: mapOf(definition.inside),
    fixedBefore: new Set(definition.fixedBefore),
    fixedAfter: new Set(definition.fixedAfter),
  }
})

const byName = new Map(groups.map((group) => [group.name, group]))
export const groupNamed = (name: string): Group | undefined => byName.get(name)

interface WordFile {
  classes: Record<string, string>
  doubt: Record<string, string>
}
interface InflectionFile {
  massNouns: string
  pluralNouns: string
  singularNouns: string
  vowelSoundExceptions: string
  comparing: string
  notComparing: string
  numbers: string
  ordinals: string
}

const wordFile = load<WordFile>('words.json')
const inflectionFile = load<InflectionFile>('inflection.json')
const doubts = Object.entries(wordFile.doubt).map(([reason, list]) => [reason, new Set(list.split('|'))] as const)

export const words = {
  /** Spellings by class. */
  classes: Object.fromEntries(Object.entries(wordFile.classes).map(([name, list]) => [name, list.split('|')])),
  /** Words that no rule takes in outside of what it names itself. */
  doubted: new Set(doubts.flatMap(([, list]) => [...list])),
  /** Why a word leaves its sentence undecided, for a message. */
  doubtOf: (word: string): string | undefined => doubts.find(([, list]) => list.has(word))?.[0],
  numbers: inflectionFile.numbers.split(' '),
  ordinals: inflectionFile.ordinals.split(' '),
}

const set = (list: string): ReadonlySet<string> => new Set(list.split(' '))
export const inflection = {
  massNouns: set(inflectionFile.massNouns),
  pluralNouns: set(inflectionFile.pluralNouns),
  singularNouns: set(inflectionFile.singularNouns),
  vowelSoundExceptions: set(inflectionFile.vowelSoundExceptions),
  comparing: set(inflectionFile.comparing),
  notComparing: set(inflectionFile.notComparing),
}
