/** Short answers as words that can be compared: case, punctuation, articles, number words and synonyms do not count. */
import { readFileSync } from 'node:fs'
import { sha256 } from '../../data/files.js'

const lexiconText = readFileSync(new URL('../../../lexica/answers.json', import.meta.url), 'utf8')

/** Of the table of synonyms, numbers and phrases, so that a change of it is seen. */
export const lexiconSha256 = sha256(lexiconText)

const lexicon: {
  synonyms: Record<string, string[]>
  declines: string[]
  negations: string[]
  numbers: string[]
} = JSON.parse(lexiconText)

export const negations: ReadonlySet<string> = new Set(lexicon.negations)

const numbers = new Map(lexicon.numbers.map((word, value) => [word, String(value)]))
const articles = new Set(['a', 'an', 'the'])

/** Longest first, so that "x ray" is one thing before "ray" could be another. */
const synonyms = Object.entries(lexicon.synonyms)
  .flatMap(([word, others]) => others.map((other) => ({ word, other: other.split(' ') })))
  .sort((a, b) => b.other.length - a.other.length)

const declines = lexicon.declines.map((phrase) => phrase.split(' '))

/** The words of a text as they are compared. */
export function answerWords(text: string): string[] {
  const plain = text
    .normalize('NFKC')
    .toLowerCase()
    .replace(/['’`]/g, '')
    .replace(/(?<=\d),(?=\d{3}(?!\d))/g, '')
    .replace(/(?<=\d)\s*(?:%|percent\b|per cent\b)/g, '%')
    .replace(/(?<!\d)\.|\.(?!\d)|[^\p{L}\p{N}\p{M}.%]+/gu, ' ')
  const words = plain
    .split(' ')
    .filter((word) => word !== '' && !articles.has(word))
    .map((word) => numbers.get(word) ?? word)
  return replaceSynonyms(words)
}

function replaceSynonyms(words: string[]): string[] {
  const replaced: string[] = []
  for (let at = 0; at < words.length; ) {
    const found = synonyms.find(({ other }) => startsAt(words, at, other))
    replaced.push(found?.word ?? words[at])
    at += found?.other.length ?? 1
  }
  return replaced
}

/** Whether a phrase stands at a place. */
export const startsAt = (words: readonly string[], at: number, phrase: readonly string[]): boolean =>
  phrase.every((word, i) => words[at + i] === word)

/** Where a phrase stands; none for an empty one. */
export function placesOf(words: readonly string[], phrase: readonly string[]): number[] {
  if (phrase.length === 0) return []
  return [...words.keys()].filter((at) => at + phrase.length <= words.length && startsAt(words, at, phrase))
}

/** The phrases by which an answer says that it gives none. */
export const decliningIn = (words: readonly string[]): readonly string[][] =>
  declines.filter((phrase) => placesOf(words, phrase).length > 0)

/** The answer says that it gives none. */
export const isDeclining = (words: readonly string[]): boolean => decliningIn(words).length > 0

/** Words before a place that a negation reaches over; "but" ends it. */
const reach = 3

/** Whether what stands at a place is denied: "no CT", "it is not really a CT"; not "no MRI but a CT". */
export function isNegated(words: readonly string[], at: number): boolean {
  const before = words.slice(Math.max(0, at - reach), at)
  return before.slice(before.lastIndexOf('but') + 1).some((word) => negations.has(word))
}
