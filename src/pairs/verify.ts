/**
 * What a pair must pass before it is accepted, whoever made it. All of it is computed from the two texts, the question and
 * the reference; nothing here reads what a judge said.
 */

import { checkOptions } from '../options.js'
import type { VerificationFault } from './build.js'
import { diffWords } from './diff.js'
import { brokenLanguage } from './language.js'
import { scan } from './rules/grammar/lexemes.js'
import type { Feature } from './rules/grammar/types.js'
import { stem } from './rules/inflection.js'
import { contradiction, ELSEWHERE, isEntailed, judgeAnswer, readAnswer } from './rules/judge.js'
import { words } from './rules/lexicon.js'
import { readQuestion } from './rules/question.js'
import { splitSentences, wordDistance, wordsOf } from './words.js'

export interface VerifyLimits {
  /** Largest word distance over the words of the longer text; `looseWords` changed words are always allowed. */
  maxEditRatio: number
  looseWords: number
  /** Changed words in a sentence of a report. */
  maxWordsPerSentence: number
  /** The lengths may differ by this share or by this many words, whichever is more. */
  lengthShare: number
  lengthWords: number
  /** A run of this many words of the reference that the edit brought in is a paste. */
  pastedRun: number
}

export const defaultVerifyLimits: VerifyLimits = {
  maxEditRatio: 0.35,
  looseWords: 2,
  maxWordsPerSentence: 3,
  lengthShare: 0.25,
  lengthWords: 3,
  pastedRun: 5,
}

export interface Candidate {
  task: 'vqa' | 'report'
  question: string
  reference: string
  chosen: string
  rejected: string
  /** The side that was edited. */
  edited: 'chosen' | 'rejected'
}

export interface Finding {
  fault: VerificationFault
  detail: string
  /** The rules cannot read the texts, and nothing in them warns: a blind judge may still vouch for the pair. */
  vouchable: boolean
}

type Found = Omit<Finding, 'vouchable'> & { vouchable?: true }

/** The first fault of a candidate, or null. */
export function verifyPair(candidate: Candidate, limits: VerifyLimits = defaultVerifyLimits): Finding | null {
  checkOptions('verifyPair, limits', limits, defaultVerifyLimits)
  const read = formFault(candidate, limits) ?? trivialFault(candidate) ?? contradictionFault(candidate)
  // What the rules read against the pair weighs more than what its words look like, and that more than what nobody could read.
  const content = read === null || read.fault === 'unread' ? contentFault(candidate) : null
  const found = content ?? read
  return found && { vouchable: false, ...found }
}

function formFault(candidate: Candidate, limits: VerifyLimits): Found | null {
  const { chosen, rejected, task } = candidate
  const [original, edited] = candidate.edited === 'chosen' ? [rejected, chosen] : [chosen, rejected]
  const before = wordsOf(original)
  const after = wordsOf(edited)
  // First, since it is cheap and bounds what follows.
  const grown = Math.abs(after.length - before.length)
  if (grown > limits.lengthWords && grown > limits.lengthShare * before.length) {
    return { fault: 'length', detail: `${before.length} words became ${after.length}` }
  }
  const foreign = foreignCharacter(original, edited)
  if (foreign) return { fault: 'foreign_characters', detail: `the edit brings ${foreign}` }
  const distance = claimDistance(original, edited)
  const longest = Math.max(before.length, after.length)
  if (task === 'vqa' && distance > limits.looseWords && distance > limits.maxEditRatio * longest) {
    return { fault: 'edit_ratio', detail: `${distance} of ${longest} words` }
  }
  const from = splitSentences(original)
  const to = splitSentences(edited)
  if (from.length !== to.length) return { fault: 'sentence_count', detail: `${from.length} became ${to.length}` }
  if (task === 'report') {
    for (const [index, sentence] of from.entries()) {
      const changed = sentence.text === to[index].text ? 0 : claimDistance(sentence.text, to[index].text)
      if (changed > limits.maxWordsPerSentence) {
        return { fault: 'edit_ratio', detail: `${changed} words of sentence ${index + 1}` }
      }
    }
  }
  const broken = brokenLanguage(original, edited)
  if (broken !== null) return { fault: 'broken_language', detail: `the edit leaves "${broken}"` }
  return styleFault(original, edited) ?? pasteFault(candidate.reference, original, edited, limits)
}

/** Controls, format and bidirectional marks, lone surrogates, private and unassigned code points. */
const FOREIGN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}]/gu

/** A character that no writer sees and that the original does not have as often. */
function foreignCharacter(original: string, edited: string): string | null {
  const counts = new Map<string, number>()
  for (const [character] of original.matchAll(FOREIGN)) counts.set(character, (counts.get(character) ?? 0) + 1)
  for (const [character] of edited.matchAll(FOREIGN)) {
    const left = (counts.get(character) ?? 0) - 1
    if (left < 0) return `U+${character.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}`
    counts.set(character, left)
  }
  return null
}

/**
 * Changed words, where grammar asks for several counted as one: `does not show` against `shows`, and a term of several
 * words, such as `magnetic resonance imaging`.
 */
function claimDistance(original: string, edited: string): number {
  const units = (text: string) => {
    const single = scan(text).features.reduceRight(
      (left, { group, term, slot, start, end }) =>
        group === 'word'
          ? left
          : `${left.slice(0, start)}${`${group}${term}${slot}`.replace(/[^\p{L}\p{N}]/gu, '')}${left.slice(end)}`,
      text,
    )
    return wordsOf(single.replace(/\bdo(?:es)?\s+not\b/gi, 'not').replace(/\bcannot\b/gi, 'can not'))
      .filter((word) => !/^(?:any|an?)$/.test(word))
      .map((word) => (word === 'are' ? 'is' : stem(word)))
  }
  return wordDistance(units(original), units(edited))
}

const markersOf = (text: string) =>
  text.match(/^[ \t]*(?:[-*•]|\d+[.)])(?=\s)/gmu)?.map((marker) => marker.trim()) ?? []

function styleFault(original: string, edited: string): Found | null {
  const markers = [markersOf(original).join(' '), markersOf(edited).join(' ')]
  if (markers[0] !== markers[1]) return { fault: 'list_markers', detail: `"${markers[0]}" became "${markers[1]}"` }
  const initial = (text: string) => /[\p{L}\p{N}]/u.exec(text)?.[0] ?? ''
  const isCapital = (text: string) => /\p{Lu}/u.test(initial(text))
  const isLetter = (text: string) => /\p{L}/u.test(initial(text))
  if (isLetter(original) && isLetter(edited) && isCapital(original) !== isCapital(edited)) {
    // "CT" for "axial" is no change of style.
    const first = wordsOf(edited)[0] ?? ''
    if (!/\p{Lu}\p{Lu}|\p{Lu}\d|\p{Lu}-/u.test(edited.slice(0, first.length + 1).trim() + original.slice(0, 2)))
      return { fault: 'first_letter', detail: `"${initial(original)}" became "${initial(edited)}"` }
  }
  const end = (text: string) => /[.!?,;:]*$/u.exec(text.trim())?.[0] ?? ''
  if (end(original) !== end(edited)) {
    return { fault: 'final_punctuation', detail: `"${end(original)}" became "${end(edited)}"` }
  }
  return null
}

/** Longest run of the reference's words in the edited text that the original did not have. */
function pasteFault(reference: string, original: string, edited: string, limits: VerifyLimits): Found | null {
  const source = wordsOf(reference)
  const has = (text: string, run: string[]) => text.includes(` ${run.join(' ')} `)
  const before = ` ${wordsOf(original).join(' ')} `
  const after = ` ${wordsOf(edited).join(' ')} `
  for (let i = 0; i + limits.pastedRun <= source.length; i++) {
    const run = source.slice(i, i + limits.pastedRun)
    if (has(after, run) && !has(before, run) && isForeign(run, original, edited)) {
      return { fault: 'pasted_reference', detail: `"${run.join(' ')}" comes from the reference` }
    }
  }
  return null
}

/** A run that a single changed word completed was nearly there before; a paste brings most of its words along. */
function isForeign(run: readonly string[], original: string, edited: string): boolean {
  const brought = new Set(diffWords(original, edited, '').flatMap(({ replacement }) => wordsOf(replacement)))
  return run.filter((word) => brought.has(word)).length * 2 > run.length
}

/** Words that say nothing of a case; a negation is none of them. */
const EMPTY = new Set(
  ['be', 'was', 'art', 'adverb', 'aside', 'prep', 'seen', 'generic', 'pronoun', 'have', 'do', 'located', 'made']
    .concat(['show', 'shows', 'lie', 'measure', 'belong', 'trace', 'picture', 'seem'])
    .flatMap((name) => words.classes[name].flatMap((spelling) => spelling.split(' '))),
)

/** What a text claims, word by word: terms by name, so that synonyms meet, and every other word that is not empty. */
function contentOf(text: string): string[] {
  const { features, rest } = scan(text)
  const isEmpty = ({ group, term }: Feature) => group === 'word' && EMPTY.has(term)
  const named = features.filter((feature) => !isEmpty(feature)).map(({ group, term }) => `${group} ${term}`)
  const plain = rest.filter((word) => /[\p{L}\p{N}]/u.test(word) && !word.split(' ').every((one) => EMPTY.has(one)))
  return [...named, ...plain.map((word) => (/^(?:n't|not)$/.test(word) ? 'not' : stem(word)))]
}

/** The changed words must change a claim. */
function trivialFault({ chosen, rejected }: Candidate): Found | null {
  // "Left, not right" and "right, not left" hold the same words.
  const claims = (text: string) => (isDenial(text) ? contentOf(text) : contentOf(text).sort()).join(', ')
  if (claims(chosen) === claims(rejected)) {
    return { fault: 'trivial_change', detail: 'both sides make the same claim in other words' }
  }
  const hunks = diffWords(chosen, rejected, '').map(({ start, end, replacement }) => [
    chosen.slice(start, end),
    replacement,
  ])
  if (hunks.every(([from, to]) => isMisspelling(from, to))) {
    return { fault: 'trivial_change', detail: 'the words differ in their spelling only' }
  }
  return null
}

/** On the chosen side the changed words must say what the reference says. */
function contentFault({ task, question, reference, chosen, rejected }: Candidate): Found | null {
  if (task === 'report' || readQuestion(question).kind === 'polar') return null
  const wanted = new Set(contentOf(reference))
  // Edit by edit, since words may have changed places, and as a whole, since a number is known by its unit.
  const changes: [string, string][] = diffWords(chosen, rejected, '').map(({ start, end, replacement }) => [
    chosen.slice(start, end),
    replacement,
  ])
  const gained = [...changes, [chosen, rejected]].flatMap(([right, wrong]) => {
    const lost = new Set(contentOf(wrong))
    return contentOf(right).filter((word) => !lost.has(word))
  })
  const turned = isDenial(chosen) !== isDenial(rejected)
  if (turned || gained.some((word) => wanted.has(word))) return null
  return { fault: 'chosen_not_in_reference', detail: 'no changed word of the chosen text is in the reference' }
}

const isDenial = (text: string): boolean => /\b(?:no|not|cannot)\b|n['’]t\b/i.test(text)

/** One letter more, less or other; two known terms are two things however alike they look. */
function isMisspelling(from: string, to: string): boolean {
  const [a, b] = [wordsOf(from), wordsOf(to)]
  if (a.length !== b.length || a.length === 0 || a.length > 4) return false
  return a.every((word, index) => {
    const other = b[index]
    if (word === other) return true
    const isKnown = (one: string) => scan(one).features.some(({ group }) => group !== 'word')
    if (Math.min(word.length, other.length) < 5 || word.length > 40 || (isKnown(word) && isKnown(other))) return false
    return wordDistance([...word], [...other]) <= 2
  })
}

function contradictionFault(candidate: Candidate): Found | null {
  const { task, question, reference, chosen, rejected } = candidate
  for (const [side, text] of task === 'vqa' ? Object.entries({ chosen, rejected }) : []) {
    const problem = contradiction({ question, reference, text })
    if (problem) return { fault: 'self_contradiction', detail: `the ${side} text: ${problem}` }
  }
  let unread: Found | null = null
  for (const [better, worse] of comparedTexts(candidate)) {
    const read = (text: string) => readAnswer({ task, question, reference, text })
    const right = better === reference ? { decided: true, correct: true, reason: '' } : read(better)
    if (right.decided && !right.correct) return { fault: 'chosen_contradicts_reference', detail: right.reason }
    const wrong = read(worse)
    if (wrong.decided && wrong.correct) return { fault: 'rejected_agrees_with_reference', detail: wrong.reason }
    const repaired = task === 'vqa' && candidate.edited === 'chosen' && right.decided
    if (repaired && !isEntailed(judgeAnswer({ task, question, reference, text: better }))) {
      return { fault: 'unread', detail: 'the chosen text says more than the reference' }
    }
    if (right.decided && wrong.decided) continue
    if (right.reason === ELSEWHERE) return { fault: 'chosen_not_in_reference', detail: right.reason }
    const found: Found = {
      fault: 'unread',
      detail: `the rules cannot read it: ${right.decided ? wrong.reason : right.reason}`,
    }
    const mayVouch = right.decided && candidate.edited === 'chosen' && isNameOnly(wrong.reason, better, worse)
    unread ??= mayVouch ? { ...found, vouchable: true } : found
  }
  return unread
}

/**
 * The rules read the chosen text, and of the rejected one they miss nothing but the name that the edit replaces: another
 * judge may know it. Anything else that they cannot read may turn a sentence around.
 */
function isNameOnly(reason: string, better: string, worse: string): boolean {
  const unknown = /^"([^"]+)" is not known$/.exec(reason)?.[1]
  const replaced = diffWords(worse, better, '').map(({ start, end }) => worse.slice(start, end).toLowerCase())
  const brought = diffWords(worse, better, '').flatMap(({ replacement }) => wordsOf(replacement))
  const isTypo = brought.some((word) => unknown !== undefined && wordDistance([...word], [...unknown]) <= 2)
  const isNamed = unknown !== undefined && replaced.some((words) => wordsOf(words).includes(unknown))
  return isNamed && !isTypo && !hasDoubt(worse)
}

/** The texts as a whole; of reports the sentences that differ, since the others have no sides. */
function comparedTexts({ task, chosen, rejected }: Candidate): [string, string][] {
  if (task === 'vqa') return [[chosen, rejected]]
  const others = splitSentences(rejected)
  return splitSentences(chosen).flatMap(({ text }, index): [string, string][] =>
    text === others[index]?.text ? [] : [[text, others[index]?.text ?? '']],
  )
}

/** Words whose scope only a reader can tell: without one, nobody's verdict is taken on a text that holds them. */
function hasDoubt(text: string): boolean {
  return /[?"“”<>{}]/.test(text) || wordsOf(text).some((word) => words.doubted.has(word) || /n['’]t$/.test(word))
}
