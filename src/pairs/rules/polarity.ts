/**
 * Yes and no: whether a sentence affirms or denies, and the fewest words that turn the one into the other. Whatever these
 * patterns do not understand they leave alone: a refusal costs one pair, a wrong sentence costs the method.
 */
import type { EditProposal } from '../edits.js'
import { articleFor, articleOf, baseOf, isBaseVerb, isMass, isPlural, matchCase, thirdPerson } from './grammar.js'
import { findMentions, grammar, groups } from './lexicon.js'

export type Polarity = 'affirmed' | 'denied'

export interface Lead {
  said: 'yes' | 'no'
  end: number
}

/** The `Yes` or `No` an answer opens with; a `No` that belongs to a noun ("No effusion is seen") is none. */
export function leadingAnswer(text: string): Lead | null {
  const match = /^(\s*)(yes|no)(?=\s*(?:[,.;:!]|-|–|—|$)|\s+(?:there|it|this|the|they|these|i|we|a|an)\b)/i.exec(text)
  return match && { said: match[2].toLowerCase() as Lead['said'], end: match[0].length }
}

/** The yes or no of a reference: all of it, or the word it opens with. */
export function plainAnswer(reference: string): 'yes' | 'no' | null {
  const whole = /^\W*(yes|no)\W*$/i.exec(reference)?.[1].toLowerCase() as 'yes' | 'no' | undefined
  return whole ?? leadingAnswer(reference)?.said ?? null
}

const NEGATOR =
  /\b(?:no|cannot|not|without|absent|never|neither|nor|none|nothing|lacks?|absence|negative|free)\b|n['’]t\b/giu
/** What comes after these is another statement. */
const CLAUSE_END = /[;]|\b(?:but|however|although|though|except|whereas|while|which)\b/iu

/** The part of a sentence that decides it. */
export function mainClause(sentence: string): string {
  const end = CLAUSE_END.exec(sentence)?.index
  return end ? sentence.slice(0, end) : sentence
}

/** Null where there are two negations or one of a kind that is not understood. */
export function polarityOf(sentence: string): Polarity | null {
  const found = negatorsOf(mainClause(sentence))
  if (found.length === 0) return 'affirmed'
  return found.length === 1 && /^(no|cannot|not|without|absent|negative|n['’]t)$/i.test(found[0][0]) ? 'denied' : null
}

function negatorsOf(clause: string): RegExpExecArray[] {
  return [...clause.matchAll(NEGATOR)]
}

/** Edits that make an affirming sentence deny and a denying one affirm; null when it takes more than these rules know. */
export function flipSentence(sentence: string): EditProposal[] | null {
  const clause = mainClause(sentence)
  const polarity = polarityOf(sentence)
  if (polarity === 'denied') return affirm(clause, negatorsOf(clause)[0])
  return polarity === 'affirmed' ? deny(clause) : null
}

const presence = (start: number, end: number, replacement: string): EditProposal => ({
  start,
  end,
  replacement,
  category: 'presence',
})

export const NOUN_PHRASE =
  /^(?:[\p{L}\p{N}'’-]+\s+){0,6}?[\p{L}\p{N}'’-]+(?=\s+(?:in|on|at|of|within|is|are|was|were|can|could|seen|visible|present|noted|identified|evident|detected|shown|observed|found|or|and|nor|to|for|that|with|from|near|along|involving|throughout)\b|\s*[.,;:]|\s*$)/iu
const HAS_VERB = /\b(?:is|are|was|were|be|been|can|could|has|have|does|do)\b/i

function affirm(clause: string, negator: RegExpExecArray): EditProposal[] | null {
  const start = negator.index
  const word = negator[0].toLowerCase()
  const end = start + word.length
  const before = clause.slice(0, start)
  const after = clause.slice(end)
  if (word === 'no') return affirmNoun(clause, start, end)
  if (word === 'absent') return /\b(is|are|was|were)\s+$/i.test(before) ? [presence(start, end, 'present')] : null
  if (word === 'negative')
    return /^\s+for\b/.test(after) ? [presence(start, end, matchCase(negator[0], 'positive'))] : null
  // "clear with consolidation" would be no sentence anybody writes.
  if (word === 'without')
    return /\b(?:clear|normal|unremarkable)\b/i.test(before) ? null : affirmNoun(clause, start, end, 'with ')
  if (word === 'cannot') return [presence(start, end, 'can'), ...settleAny(clause, end)]
  return affirmVerb(clause, start, end)
}

/** `no X` becomes `a X`, or `X` where no article belongs; `no X or Y` becomes `a X but no Y`. */
function affirmNoun(clause: string, start: number, end: number, preposition = ''): EditProposal[] | null {
  const space = /^\s+(?:any\s+)?/.exec(clause.slice(end))?.[0]
  if (space === undefined) return null
  const from = end + space.length
  const phrase = NOUN_PHRASE.exec(clause.slice(from))?.[0]
  if (
    !phrase ||
    /^(longer|other|more|one|way|change|interval|difference|further|the|a|an|definite|clear)\b/i.test(phrase)
  )
    return null
  const rest = clause.slice(from + phrase.length)
  if (/^\s*,.*\bor\b/i.test(rest) || /^\s+(and|nor)\b/i.test(rest)) return null
  const isFragment = before(clause, start) === '' && !HAS_VERB.test(clause) && !rest.trim().match(/^\p{L}+s\b/u)
  const hasArticle = !isFragment && (preposition === '' || !isMass(phrase.split(/\s+/).at(-1) ?? ''))
  const opening = preposition + (hasArticle ? articleOf(phrase) : '')
  const edits =
    opening === ''
      ? [presence(start, from + phrase.length, matchCase(clause.slice(start), phrase))]
      : [presence(start, from, matchCase(clause.slice(start), opening))]
  const or = /^\s+or\b/i.exec(rest)
  if (or) {
    const alternatives = rest.slice(or[0].length).match(/\b(or|and)\b|,/g)
    if (alternatives || preposition) return null
    const at = from + phrase.length + or[0].length - 2
    edits.push(presence(at, at + 2, 'but no'))
  }
  return edits
}

const before = (clause: string, start: number) => clause.slice(0, start).trim()

/** "Not round and dense": with two predicates it is open which of them is denied. */
const JOINED = /\b(?:and|or)\b/i

/** `is not seen` becomes `is seen`, `does not contain` becomes `contains`. */
function affirmVerb(clause: string, start: number, end: number): EditProposal[] | null {
  const left = /(\b[\p{L}]+)(\s*)$/u.exec(clause.slice(0, start))
  if (!left) return null
  const auxiliary = left[1].toLowerCase()
  const from = start - left[0].length
  const right = /^\s+([\p{L}]+)/u.exec(clause.slice(end))
  const next = right?.[1].toLowerCase() ?? ''
  if (/^(only|possible|certain|known|specified|mentioned|enough|sure|just|necessarily)$/.test(next)) return null
  if (/^(does|do)$/.test(auxiliary)) {
    if (!right) return [presence(from, end, left[1])]
    if (!isBaseVerb(next)) return null
    const verb = auxiliary === 'does' ? thirdPerson(next) : next
    return [presence(from, end + right[0].length, verb), ...settleAny(clause, end + right[0].length)]
  }
  if (!/^(is|are|was|were|can|could|has|have|may|might|will|should)$/.test(auxiliary)) return null
  if (JOINED.test(clause.slice(end))) return null
  return [presence(from + left[1].length, end, ''), ...settleAny(clause, end)]
}

/** After an affirmed verb, `any X` becomes `a X` or `X`. */
function settleAny(clause: string, from: number): EditProposal[] {
  const any = /\bany\s+/i.exec(clause.slice(from))
  if (!any) return []
  const start = from + any.index
  const phrase = NOUN_PHRASE.exec(clause.slice(start + any[0].length))?.[0] ?? ''
  return [presence(start, start + any[0].length, articleOf(phrase))]
}

/** Adjectives that measure or weigh a finding; once it is denied there is nothing to measure. */
const measuring = new RegExp(
  `^(?:(?:clear|definite|obvious|strong|${groups
    .filter((group) => group.name === 'severity' || group.name === 'size')
    .flatMap((group) => [...group.terms.values()].flat(2))
    .join('|')})\\s+)+`,
  'i',
)
const quantifier = new RegExp(`^(?:${[...grammar.quantifiers].join('|')})\\s+`, 'i')

/** Verbs whose object can carry the negation: `shows a nodule`, `shows no nodule`. */
const TAKES_OBJECT = /^(show|contain|have|demonstrate|reveal|include|depict|suggest|indicate|display|exhibit)$/

function deny(clause: string): EditProposal[] | null {
  const existential = /\bthere\s+(?:is|are|was|were|(?:appears?|seems?)\s+to\s+be)\s+/iu.exec(clause)
  if (existential) return denyNoun(clause, existential.index + existential[0].length)
  const tokens = [...clause.matchAll(/[\p{L}'’-]+/gu)]
  const at = tokens.findIndex(({ 0: word }) => isFiniteVerb(word))
  if (at < 0) return denyFragment(clause)
  const verb = tokens[at]
  const subject = clause.slice(0, verb.index)
  if (/\b(that|who|where|when|if|what)\b/i.test(subject)) return null
  const end = verb.index + verb[0].length
  const rest = clause.slice(end)
  const low = verb[0].toLowerCase()
  if (
    /^(is|are|was|were|can|could|may|might|will|should)$/.test(low) ||
    (/^(has|have)$/.test(low) && /^\s+been\b/.test(rest))
  ) {
    const indefinite = /^(\s*)(an?|some|multiple|several)\s+/i.exec(subject)
    const predicate = /^\s+(?:be\s+|also\s+)*([\p{L}]+)/u.exec(rest)?.[1].toLowerCase() ?? ''
    if (indefinite && grammar.participles.has(predicate)) {
      const after = indefinite[0].length
      const measured = measuring.exec(clause.slice(after))?.[0].length ?? 0
      const from = indefinite[1].length
      return [presence(from, after + measured, matchCase(clause.slice(from), 'no '))]
    }
    if (JOINED.test(rest)) return null
    return low === 'can' ? [presence(verb.index, end, 'cannot')] : [presence(end, end, ' not')]
  }
  if (/^(does|do)$/.test(low)) return /^\W*$/.test(rest) ? [presence(end, end, ' not')] : null
  const isThird = baseOf(low) !== undefined
  const base = baseOf(low) ?? low
  const object = /^\s+(?=(?!the\b|that\b|this\b|its\b|both\b|to\b|of\b|all\b|on\b|in\b|like\b)[\p{L}\p{N}])/iu.exec(
    rest,
  )
  if (TAKES_OBJECT.test(base) && object) return denyNoun(clause, end + object[0].length)
  return [presence(verb.index, end, `${isThird ? 'does' : 'do'} not ${base}`)]
}

/** How many statements a sentence makes: `does not show` and `is seen` are one each. */
export function finiteVerbs(sentence: string): number {
  const words = [...sentence.matchAll(/[\p{L}'’-]+/gu)].map((match) => match[0])
  const support = /^(?:does|do|can|cannot|could|may|might|will|should|not|to)$/i
  return words.filter((word, index) => {
    if (/^cannot$/i.test(word)) return true
    // "a low signal show" has no determiner before its verb, "the help" has.
    if (isBaseVerb(word) && (index === 0 || !isPlural(words[index - 1]))) return false
    return isFiniteVerb(word) && !(index > 0 && support.test(words[index - 1]))
  }).length
}

function isFiniteVerb(word: string): boolean {
  return (
    /^(is|are|was|were|can|could|may|might|will|should|does|do)$/i.test(word) ||
    baseOf(word) !== undefined ||
    isBaseVerb(word)
  )
}

/** `a small effusion` becomes `no effusion`. */
function denyNoun(clause: string, from: number): EditProposal[] | null {
  const after = clause.slice(from)
  if (/^(the|this|its|only|more|at least|likely|one|two|three|four|five|\d)\b/i.test(after)) return null
  const article = /^an?\s+/i.exec(after)?.[0] ?? quantifier.exec(after)?.[0] ?? ''
  const measured = measuring.exec(after.slice(article.length))?.[0] ?? ''
  const rest = after.slice(article.length + measured.length)
  // With two things affirmed it is open which of them is denied.
  const phrase = NOUN_PHRASE.exec(rest)?.[0]
  if (!phrase || /^\s*(,\s*)?(and|or)\b|^\s*,\s*(?:an?\s)?\p{L}+\s*,/iu.test(rest.slice(phrase.length))) return null
  return [presence(from, from + article.length + measured.length, 'no ')]
}

/** "Small left effusion." becomes "No left effusion."; a phrase that is a whole answer is not a statement. */
function denyFragment(clause: string): EditProposal[] | null {
  const phrase = NOUN_PHRASE.exec(clause)?.[0]
  if (!phrase || /\b(and|or|any)\b/i.test(clause)) return null
  if (!findMentions(phrase).some(({ group }) => group.name === 'finding')) return null
  const article = /^an?\s+/i.exec(clause)?.[0] ?? ''
  const measured = measuring.exec(clause.slice(article.length))?.[0] ?? ''
  const dropped = article.length + measured.length
  const first = /^\p{L}+/u.exec(clause.slice(dropped))?.[0] ?? ''
  // An abbreviation keeps its capitals, any other word loses the one it had at the front.
  const small = dropped === 0 && /^\p{Lu}\p{Ll}+$/u.test(first) ? first.toLowerCase() : first
  return first === '' ? null : [presence(0, dropped + first.length, `No ${small}`)]
}

/** `one nodule` and `two nodules`: a noun and its copula follow the number. */
export function agreeWithNumber(noun: string, count: number): string | null {
  if (isMass(noun)) return null
  if (count === 1) {
    if (!isPlural(noun)) return noun
    if (/ies$/.test(noun)) return `${noun.slice(0, -3)}y`
    if (/(ss|sh|ch|x)es$/.test(noun)) return noun.slice(0, -2)
    return grammar.pluralNouns.has(noun.toLowerCase()) && !/s$/.test(noun) ? null : noun.slice(0, -1)
  }
  if (isPlural(noun)) return noun
  return /[^aeiou]y$/.test(noun) ? `${noun.slice(0, -1)}ies` : /(s|sh|ch|x)$/.test(noun) ? `${noun}es` : `${noun}s`
}

/** The article before a word that is about to change, when it has to change too. */
export function articleBefore(text: string, start: number, following: string): EditProposal | null {
  const article = /\b(an?)(\s+)$/i.exec(text.slice(0, start))
  if (!article) return null
  const right = matchCase(article[1], articleFor(following))
  if (right.toLowerCase() === article[1].toLowerCase()) return null
  const from = start - article[0].length
  return { start: from, end: from + article[1].length, replacement: right, category: '' }
}
