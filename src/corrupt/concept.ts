/** Which of the labels that an image has masks for a pair is about. */
import type { Pair } from '../data/records.js'

/** Where the concept was found: in the record, in the question, or in the text of an edit of the chosen answer. */
export type ConceptOrigin = 'record' | 'prompt' | 'answer'

export interface MatchedLabels {
  labels: string[]
  by: ConceptOrigin
}

/** Upper and lower case, spaces, dashes, underscores and `camelCase` alike, every word in the singular. */
export function normalConcept(text: string): string {
  return text
    .replace(/(\p{Ll})(\p{Lu})/gu, '$1 $2')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim()
    .split(' ')
    .map(singular)
    .join(' ')
}

/** English plurals and the Latin and Greek ones of medicine, by their endings; the first that fits. */
const plurals: readonly (readonly [ending: RegExp, singular: string])[] = [
  [/ies$/, 'y'],
  [/(ss|x|ch|sh)es$/, '$1'],
  [/uses$/, 'us'],
  [/(\p{L}{3}(?:[^e]as|os|hes))es$/u, '$1is'],
  [/ae$/, 'a'],
  [/(\p{L}{3})i$/u, '$1us'],
  [/([^sui])s$/, '$1'],
]

/** A word and its plural give the same; it need not be a word. */
function singular(word: string): string {
  const [ending, one] = plurals.find(([pattern]) => word.length > 3 && pattern.test(word)) ?? []
  return ending ? word.replace(ending, one as string) : word
}

/** `provenance.concept` of a record, one or several. */
export function recordConcepts(pair: Pair): string[] {
  return [pair.provenance.concept]
    .flat()
    .filter((concept) => typeof concept === 'string' && concept.trim() !== '') as string[]
}

/**
 * The labels of the record's concept where it has one, else those whose words, in either number, stand in the question,
 * else in what the edits say on the chosen side. Of labels that contain each other the longest wins ("left lung" is not also "lung").
 */
export function matchLabels(pair: Pair, labels: readonly string[]): MatchedLabels {
  const concepts = recordConcepts(pair).map(normalConcept)
  if (concepts.length > 0) {
    return { labels: labels.filter((label) => concepts.includes(normalConcept(label))), by: 'record' }
  }
  const asked = mentioned(pair.prompt, labels)
  if (asked.length > 0) return { labels: asked, by: 'prompt' }
  const said = pair.edits.map(({ chosen: [start, end] }) => pair.chosen.slice(start, end)).join('\n')
  return { labels: mentioned(said, labels), by: 'answer' }
}

function mentioned(text: string, labels: readonly string[]): string[] {
  let rest = ` ${normalConcept(text)} `
  const found: string[] = []
  for (const label of [...labels].sort((a, b) => b.length - a.length)) {
    const words = normalConcept(label)
    if (words === '' || !rest.includes(` ${words} `)) continue
    found.push(label)
    rest = rest.replaceAll(` ${words} `, ' | ')
  }
  return found
}
