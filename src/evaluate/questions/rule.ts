/**
 * The judge by rule. It decides what is plain and says when it is not sure: a weak verdict stands, and a judge should look at it;
 * `undecided` counts as wrong and is shown beside the number.
 */
import type { Sample } from '../../data/records.js'
import type { RuleVerdict } from '../records.js'
import { finalAnswer } from './final-answer.js'
import { answerWords, decliningIn, isDeclining, isNegated, placesOf } from './words.js'

/** Raised with every change that can change a verdict: evaluations under other rules are not compared. */
export const rulesVersion = 2

type Question = Pick<Sample, 'question' | 'answer' | 'answerType'>

const decide = (verdict: RuleVerdict['verdict'], strength: RuleVerdict['strength'], reason: string): RuleVerdict => ({
  verdict,
  strength,
  reason,
})
const undecided = (reason: string): RuleVerdict => decide('undecided', 'strong', reason)

/**
 * Judges an answer against the reference. Closed questions with a yes or no: the opening word decides, else the only such word (weak).
 * Questions with options ("a CT or an MRI"): the option that is named and not denied. Everything else: all parts of the reference must
 * occur as phrases that are not denied, with no other side and no other number.
 */
export function judgeByRule({ question, answer, answerType }: Question, text: string): RuleVerdict {
  const final = finalAnswer(text)
  const said = answerWords(final)
  const reference = answerWords(answer)
  if (said.length === 0) return undecided('empty_answer')
  if (reference.length === 0) return undecided('empty_reference')
  if (answerType === 'closed' && isYesNo(reference)) {
    return offersBoth.test(final) ? undecided('both') : judgeYesNo(reference[0], said)
  }
  if (answerType === 'closed') {
    const options = optionsOf(answerWords(question), reference)
    return options ? judgeOption(reference, options, said) : judgePhrase(answer, reference, said)
  }
  return reference.join(' ') === said.join(' ')
    ? decide('correct', 'strong', 'equal')
    : judgePhrase(answer, reference, said)
}

const isYesNo = (words: readonly string[]): boolean => words.length === 1 && (words[0] === 'yes' || words[0] === 'no')

/** "Yes/No", the choice handed back. */
const offersBoth = /^\W*(yes\s*[/|]\s*no|no\s*[/|]\s*yes)\b/i

function judgeYesNo(reference: string, said: readonly string[]): RuleVerdict {
  const opens = said[0] === 'yes' || said[0] === 'no'
  const declining = decliningIn(said)
  // "Yes, with unclear margins" declines nothing, "yes, but unclear" does: one word does not tell.
  const doubtful = opens && declining.length > 0 && declining.every((phrase) => phrase.length === 1)
  if (declining.length > 0 && !doubtful) return undecided('declines')
  const right = (word: string): RuleVerdict['verdict'] => (word === reference ? 'correct' : 'incorrect')
  const joined = /^(yes (and|or) no|no (and|or) yes)$/.test(said.slice(0, 3).join(' '))
  if (joined) return undecided('both')
  if (opens) return decide(right(said[0]), doubtful ? 'weak' : 'strong', 'opens_with')
  const mentioned = ['yes', 'no'].filter((word) => said.includes(word))
  if (mentioned.length === 2) return undecided('both')
  return mentioned.length === 1 ? decide(right(mentioned[0]), 'weak', 'mentions') : undecided('neither')
}

/** Words that end an option: "a CT or an MRI of the chest". */
const optionEnds = new Set(['of', 'in', 'on', 'at', 'for', 'with', 'from', 'here', 'shown', 'seen', 'present', 'or'])

/** The other options of a question that offers the reference with "or"; undefined where it does not. */
function optionsOf(question: readonly string[], reference: readonly string[]): string[][] | undefined {
  const others: string[][] = []
  let offered = false
  for (const [at, word] of question.entries()) {
    if (word !== 'or') continue
    const rest = question.slice(at + 1)
    const end = rest.findIndex((next) => optionEnds.has(next))
    const right = end < 0 ? rest : rest.slice(0, end)
    // The option on the left has no beginning of its own: it is as long as the one it stands beside.
    const lefts = [reference.length, right.length].map((length) => question.slice(Math.max(0, at - length), at))
    const sides = [right, ...lefts]
    if (!sides.some((side) => placesOf(side, reference).length > 0)) continue
    offered = true
    const other = placesOf(right, reference).length > 0 ? lefts[0] : right
    if (other.length > 0 && placesOf(other, reference).length === 0) others.push(other)
  }
  return offered && others.length > 0 ? others : undefined
}

function judgeOption(reference: readonly string[], others: readonly string[][], said: readonly string[]): RuleVerdict {
  if (isDeclining(said)) return undecided('declines')
  const asserts = (phrase: readonly string[]): boolean => placesOf(said, phrase).some((at) => !isNegated(said, at))
  const [own, other] = [asserts(reference), others.some(asserts)]
  if (own && other) return undecided('both_options')
  if (own || other) return decide(own ? 'correct' : 'incorrect', 'strong', 'option')
  return undecided('neither')
}

const sides = ['left', 'right', 'bilateral'] as const

/** "Left and right" is bilateral: what one text says so is written so in the other. */
function joinSides(words: readonly string[], other: readonly string[]): readonly string[] {
  if (!other.includes('bilateral')) return words
  const joined = [...words]
  for (const both of ['left and right', 'right and left']) {
    const places = placesOf(joined, both.split(' ')).reverse()
    for (const at of places) joined.splice(at, 3, 'bilateral')
  }
  return joined
}

function judgePhrase(answer: string, wanted: readonly string[], text: readonly string[]): RuleVerdict {
  const [reference, said] = [joinSides(wanted, text), joinSides(text, wanted)]
  const guarded = guardSides(reference, said) ?? guardNumbers(reference, said)
  if (guarded) return guarded
  const parts = reference.length < wanted.length ? [reference] : partsOf(answer)
  const places = parts.map((part) => placesOf(said, part))
  if (places.every((found) => found.length > 0)) {
    const denied = places.some((found, i) => !beginsWithDenial(parts[i]) && found.every((at) => isNegated(said, at)))
    return denied ? decide('incorrect', 'weak', 'negated') : decide('correct', 'strong', 'phrase')
  }
  if (isDeclining(said)) return undecided('declines')
  const scattered = reference.length > 1 && parts.length === 1 && reference.every((word) => said.includes(word))
  return scattered ? decide('undecided', 'weak', 'words_apart') : decide('incorrect', 'weak', 'absent')
}

const beginsWithDenial = (part: readonly string[]): boolean => isNegated([...part, ''], 1)

/** "Left lung, right" has two parts; both must be said. */
const partsOf = (answer: string): string[][] =>
  answer
    .split(/(?<!\d)[,;/]|[,;/](?!\d)|\band\b/i)
    .map(answerWords)
    .filter((part) => part.length > 0)

/** An answer that names another side is wrong, one that names both says nothing. */
function guardSides(reference: readonly string[], said: readonly string[]): RuleVerdict | undefined {
  const wanted = sides.filter((side) => reference.includes(side))
  const named = sides.filter((side) => said.includes(side))
  if (wanted.length !== 1 || named.length === 0) return undefined
  if (!named.includes(wanted[0])) return decide('incorrect', 'strong', 'other_side')
  return named.length > 1 ? undecided('both_sides') : undefined
}

const isNumber = (word: string): boolean => /^\d+(\.\d+)?%?$/.test(word)

/** The same for numbers. */
function guardNumbers(reference: readonly string[], said: readonly string[]): RuleVerdict | undefined {
  const wanted = new Set(reference.filter(isNumber))
  const named = new Set(said.filter(isNumber))
  if (wanted.size === 0 || named.size === 0) return undefined
  const missing = [...wanted].some((number) => !named.has(number))
  if (missing)
    return [...named].some((number) => wanted.has(number)) ? undefined : decide('incorrect', 'strong', 'other_number')
  return named.size > wanted.size ? undecided('several_numbers') : undefined
}
