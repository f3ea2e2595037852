/**
 * What a pair must pass before it is accepted, whoever made it. All of it is computed from the two texts, the question and
 * the reference; nothing here reads what a judge said.
 */
import type { VerificationFault } from './build.js'
import { diffWords } from './diff.js'
import { stem } from './rules/grammar.js'
import { findMentions } from './rules/lexicon.js'
import { leadingAnswer, plainAnswer, polarityOf } from './rules/polarity.js'
import { contentWords, readAnswer, readYesNo } from './rules/reader.js'
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
  /** False for pairs whose sides were never meant to share a style: only the contradiction is checked. */
  minimal: boolean
}

export interface Finding {
  fault: VerificationFault
  detail: string
}

/** The first fault of a candidate, or null. */
export function verifyPair(candidate: Candidate, limits: VerifyLimits = defaultVerifyLimits): Finding | null {
  return (candidate.minimal ? formFault(candidate, limits) : null) ?? contradictionFault(candidate)
}

function formFault(candidate: Candidate, limits: VerifyLimits): Finding | null {
  const { chosen, rejected, task } = candidate
  const [original, edited] = candidate.edited === 'chosen' ? [rejected, chosen] : [chosen, rejected]
  const before = wordsOf(original)
  const after = wordsOf(edited)
  const distance = claimDistance(original, edited)
  const longest = Math.max(before.length, after.length)
  if (task === 'vqa' && distance > limits.looseWords && distance > limits.maxEditRatio * longest) {
    return { fault: 'edit_ratio', detail: `${distance} of ${longest} words` }
  }
  const grown = Math.abs(after.length - before.length)
  if (grown > limits.lengthWords && grown > limits.lengthShare * before.length) {
    return { fault: 'length', detail: `${before.length} words became ${after.length}` }
  }
  const from = splitSentences(original)
  const to = splitSentences(edited)
  if (from.length !== to.length) return { fault: 'sentence_count', detail: `${from.length} became ${to.length}` }
  if (task === 'report') {
    for (const [index, sentence] of from.entries()) {
      const changed = claimDistance(sentence.text, to[index].text)
      if (changed > limits.maxWordsPerSentence) {
        return { fault: 'edit_ratio', detail: `${changed} words of sentence ${index + 1}` }
      }
    }
  }
  return styleFault(original, edited) ?? pasteFault(candidate.reference, original, edited, limits)
}

/**
 * Changed words, where grammar asks for several counted as one: `does not show` against `shows`, and a term of several
 * words, such as `magnetic resonance imaging`.
 */
function claimDistance(original: string, edited: string): number {
  const units = (text: string) => {
    const single = findMentions(text).reduceRight(
      (left, { group, term, slot, start, end }) =>
        `${left.slice(0, start)}${`${group.name}${term}${slot}`.replace(/[^\p{L}\p{N}]/gu, '')}${left.slice(end)}`,
      text,
    )
    return wordsOf(single.replace(/\bdo(?:es)?\s+not\b/gi, 'not').replace(/\bcannot\b/gi, 'can not'))
      .filter((word) => word !== 'any')
      .map((word) => (word === 'are' ? 'is' : word))
      .map(stem)
  }
  return wordDistance(units(original), units(edited))
}

const markersOf = (text: string) =>
  text.match(/^[ \t]*(?:[-*•]|\d+[.)])(?=\s)/gmu)?.map((marker) => marker.trim()) ?? []

function styleFault(original: string, edited: string): Finding | null {
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
function pasteFault(reference: string, original: string, edited: string, limits: VerifyLimits): Finding | null {
  const source = wordsOf(reference)
  const has = (text: string[], run: string[]) => ` ${text.join(' ')} `.includes(` ${run.join(' ')} `)
  const before = wordsOf(original)
  const after = wordsOf(edited)
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

function contradictionFault({ task, question, reference, chosen, rejected, minimal }: Candidate): Finding | null {
  if (minimal && sameClaims(chosen, rejected)) {
    return { fault: 'trivial_change', detail: 'both sides make the same claim in other words' }
  }
  for (const [side, text] of Object.entries({ chosen, rejected })) {
    if (task === 'vqa' && contradictsItself(question, text)) {
      return { fault: 'self_contradiction', detail: `the ${side} text affirms and denies` }
    }
  }
  const right = readAnswer({ task, question, reference, text: chosen })
  if (right.decided && !right.correct) return { fault: 'chosen_contradicts_reference', detail: right.reason }
  if (!right.decided && task === 'vqa' && !isGrounded(reference, chosen)) {
    return { fault: 'chosen_not_in_reference', detail: 'the chosen text has no word of the reference' }
  }
  const wrong = readAnswer({ task, question, reference, text: rejected })
  if (wrong.decided && wrong.correct) return { fault: 'rejected_agrees_with_reference', detail: wrong.reason }
  return null
}

/** True when the words that carry claims are the same, synonyms and articles aside. */
function sameClaims(chosen: string, rejected: string): boolean {
  const claims = (text: string) => [...contentWords(text)].join(' ')
  const polarity = (text: string) => splitSentences(text).map((sentence) => polarityOf(sentence.text))
  return claims(chosen) === claims(rejected) && polarity(chosen).join() === polarity(rejected).join()
}

/** Where the rules cannot read a text, nothing but a judge vouches for it, unless a word of the reference is in it. */
function isGrounded(reference: string, text: string): boolean {
  const words = new Set(contentWords(text))
  const claims = contentWords(reference)
  return claims.length === 0 || plainAnswer(reference) !== null || claims.some((word) => words.has(word))
}

/** An answer that opens with yes or no and goes on to say the opposite of what was asked. */
function contradictsItself(question: string, text: string): boolean {
  const lead = leadingAnswer(text)
  return lead !== null && /goes on to say/.test(readYesNo(question, text).reason)
}
