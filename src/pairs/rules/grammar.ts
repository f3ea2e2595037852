/** As much English as minimal edits need: articles, number, the third person, the case of a first letter. */
import { grammar } from './lexicon.js'

/** `a` or `an`, by the sound of what follows. */
export function articleFor(following: string): 'a' | 'an' {
  const word = /[\p{L}\p{N}.]+(?:-\p{L}+)?/u.exec(following)?.[0] ?? ''
  if (/^(8|11|18)/.test(word)) return 'an'
  // Letters that are spelt out: an MRI, an X-ray, an L4 fracture.
  if (/^[AEFHILMNORSX](?:[A-Z\d]|-|$)/.test(word)) return 'an'
  if (/^[BCDGJKPQTUVWYZ](?:[A-Z\d]|-|$)/.test(word)) return 'a'
  if (grammar.vowelSoundExceptions.has(word.toLowerCase())) return 'a'
  return /^[aeiou]/i.test(word) ? 'an' : 'a'
}

export function isMass(noun: string): boolean {
  return grammar.massNouns.has(noun.toLowerCase())
}

export function isPlural(noun: string): boolean {
  const word = noun.toLowerCase()
  if (grammar.pluralNouns.has(word)) return !grammar.singularNouns.has(word)
  return /[^su]s$/.test(word) && !/(sis|itis)$/.test(word) && !grammar.singularNouns.has(word) && !isMass(word)
}

/** What a noun phrase begins with once it is affirmed: `a `, `an ` or nothing. */
export function articleOf(nounPhrase: string): string {
  const head = /([\p{L}\p{N}-]+)\s*$/u.exec(nounPhrase)?.[1] ?? ''
  return isPlural(head) || isMass(head) ? '' : `${articleFor(nounPhrase)} `
}

/** `contains` of `contain`. */
export function thirdPerson(verb: string): string {
  if (verb === 'have') return 'has'
  if (/(s|sh|ch|x|z|o)$/.test(verb)) return `${verb}es`
  return /[^aeiou]y$/.test(verb) ? `${verb.slice(0, -1)}ies` : `${verb}s`
}

const bases = new Map([...grammar.verbs].map((verb) => [thirdPerson(verb), verb]))

/** `contain` of `contains`; undefined for anything but a verb of the list in the third person. */
export function baseOf(verb: string): string | undefined {
  return bases.get(verb.toLowerCase())
}

export function isBaseVerb(word: string): boolean {
  return grammar.verbs.has(word.toLowerCase())
}

/** `replacement` with the case of what it replaces: a capital at the front, or all small as in "mri". */
export function matchCase(original: string, replacement: string): string {
  if (/^\p{Lu}/u.test(original)) return replacement.charAt(0).toUpperCase() + replacement.slice(1)
  if (original === original.toLowerCase() && /^(mri|mr|ct|cat|x-ray|xray|x ray|t1|t2|pa|ap)/.test(original))
    return replacement.toLowerCase()
  return replacement
}

/** A word bare of plural and case, to compare questions with answers. */
export function stem(word: string): string {
  const low = word.toLowerCase()
  if (low === 'has') return 'have'
  if (low.length > 4 && low.endsWith('ies')) return `${low.slice(0, -3)}y`
  if (low.length > 5 && /(ss|ch|sh|x)es$/.test(low)) return low.slice(0, -2)
  return low.length > 3 && /[^su]s$/.test(low) ? low.slice(0, -1) : low
}
