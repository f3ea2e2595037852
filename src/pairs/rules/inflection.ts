/** As much English as minimal edits need: articles, number, the third person, the case of a first letter. */
import { inflection } from './lexicon.js'

/** `a` or `an`, by the sound of what follows. */
export function articleFor(following: string): 'a' | 'an' {
  const word = /[\p{L}\p{N}.]+(?:-\p{L}+)?/u.exec(following)?.[0] ?? ''
  if (/^(8|11|18)/.test(word)) return 'an'
  // Letters that are spelt out: an MRI, an X-ray, an L4 fracture.
  if (/^[AEFHILMNORSX](?:[A-Z\d]|-|$)/.test(word)) return 'an'
  if (/^[BCDGJKPQTUVWYZ](?:[A-Z\d]|-|$)/.test(word)) return 'a'
  if (inflection.vowelSoundExceptions.has(word.toLowerCase()) || YOU_SOUND.test(word)) return 'a'
  return /^[aeiou]/i.test(word) ? 'an' : 'a'
}

/** A ureter, a unit, a useful view; but an unknown, an urgent, an ulcer. */
const YOU_SOUND = /^(?:u(?:r(?!g|ch|n)|ni(?!n|m|d)|t[ei]|s[ue])|eu)/i

export function isMass(noun: string): boolean {
  return inflection.massNouns.has(noun.toLowerCase())
}

export function isPlural(noun: string): boolean {
  const word = noun.toLowerCase()
  if (inflection.pluralNouns.has(word)) return !inflection.singularNouns.has(word)
  return /[^su]s$/.test(word) && !/(sis|itis)$/.test(word) && !inflection.singularNouns.has(word) && !isMass(word)
}

/** What a noun phrase begins with once it is affirmed: `a `, `an ` or nothing. `head` is the noun that decides. */
export function articleOf(nounPhrase: string, head = /([\p{L}\p{N}-]+)\s*$/u.exec(nounPhrase)?.[1] ?? ''): string {
  return isPlural(head) || isMass(head) ? '' : `${articleFor(nounPhrase)} `
}

/** `contains` of `contain`. */
export function thirdPerson(verb: string): string {
  if (verb === 'have') return 'has'
  if (/(s|sh|ch|x|z|o)$/.test(verb)) return `${verb}es`
  return /[^aeiou]y$/.test(verb) ? `${verb.slice(0, -1)}ies` : `${verb}s`
}

/** `contain` of `contains`. */
export function baseForm(verb: string): string {
  if (verb === 'has') return 'have'
  return /.[^aeiou]ies$/.test(verb) ? `${verb.slice(0, -3)}y` : verb.replace(/s$/, '')
}

/** `one nodule` and `two nodules`: the form of a noun that goes with a number; null where it has no such form. */
export function agreeWithNumber(noun: string, count: number): string | null {
  if (isMass(noun)) return null
  if (count === 1) {
    if (!isPlural(noun)) return noun
    if (noun.toLowerCase() === 'vertebrae') return noun.slice(0, -1)
    if (/ies$/.test(noun)) return `${noun.slice(0, -3)}y`
    if (/(ss|sh|ch|x)es$/.test(noun)) return noun.slice(0, -2)
    return /[^s]$|[cs]es$/.test(noun) ? null : noun.slice(0, -1)
  }
  if (isPlural(noun)) return noun
  if (noun.toLowerCase() === 'vertebra') return `${noun}e`
  if (inflection.singularNouns.has(noun.toLowerCase()) && !/(ss|cess)$/.test(noun)) return null
  return /[^aeiou]y$/.test(noun) ? `${noun.slice(0, -1)}ies` : /(s|sh|ch|x)$/.test(noun) ? `${noun}es` : `${noun}s`
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
  if (low.length > 4 && low.endsWith('ies')) return `${low.slice(0, -3)}y`
  if (low.length > 5 && /(ss|ch|sh|x)es$/.test(low)) return low.slice(0, -2)
  return low.length > 3 && /[^su]s$/.test(low) ? low.slice(0, -1) : low
}
