/** An answer said again with another claim: the same template, so that the two differ in as few words as the language allows. */
import type { Verdict } from '../data/records.js'
import { judge, judgeSentence } from './judge.js'
import {
  possibleClaims,
  possibleStates,
  type RegionState,
  regionStatements,
  sayClaim,
  sayRegion,
  statements,
  stateOf,
} from './language.js'
import { terseAnswer } from './questions.js'
import type { Rng } from './rng.js'
import { type Ask, type Claim, type EditCategory, REGION_FINDINGS, REGIONS, type Region, type Truth } from './types.js'

/**
 * A wrong answer, or a wrong sentence of a report, said truly. Null if it is right already, or is not one of the world's
 * sentences, so that no small change of it is known.
 */
export function repair(truth: Truth, text: string): string | null {
  const { ask, claim, findings } = truth
  if (judgeUnit(truth, text).correct) return null
  if (ask.intent === 'report') return sayAgain(text, (region) => stateOf(region, findings))
  const read = statements(ask).get(text.trim())
  return read ? replaceTrimmed(text, sayClaim(ask, claim!, read.style)) : null
}

/**
 * A right answer, a right sentence of a report or the terse reference of a question, made plausibly wrong in its own style. Null if it
 * is wrong, or is none of the world's.
 */
export function counterfactual(truth: Truth, text: string, rng: Rng): string | null {
  const { ask, claim, findings } = truth
  if (!judgeUnit(truth, text).correct) return null
  if (ask.intent === 'report') {
    return sayAgain(text, (region) => rng.pick(nearMisses(region, stateOf(region, findings))))
  }
  const read = statements(ask).get(text.trim())
  const isTerse = text.trim() === terseAnswer(ask, claim, findings)
  if (!read && !isTerse) return null
  const wrong = rng.pick(wrongClaims(ask, claim!))
  return replaceTrimmed(text, read ? sayClaim(ask, wrong, read.style) : terseAnswer(ask, wrong, findings))
}

/** Judges what a pair is made of: an answer as a whole, a report one sentence at a time. */
export function judgeUnit(truth: Truth, text: string): Verdict {
  return truth.ask.intent === 'report' ? judgeSentence(truth, text) : judge(truth, text)
}

/** Claims that answer the question falsely and differ in one thing only. */
function wrongClaims(ask: Exclude<Ask, { intent: 'report' }>, truth: Claim): Claim[] {
  const differing = possibleClaims(ask.intent).filter((claim) => {
    if (ask.intent === 'kind')
      return claim.finding !== truth.finding && REGION_FINDINGS[ask.region].includes(claim.finding)
    return claim.finding === truth.finding && distance(claim, truth) > 0
  })
  // A false side check must still agree with itself: yes names the asked side, no the other.
  if (ask.intent === 'side-check') return differing.filter((claim) => claim.present === (claim.side === ask.asked))
  return differing.filter((claim) => distance(claim, truth) <= 1)
}

function distance(a: Claim, b: Claim): number {
  const slots = ['finding', 'present', 'side', 'zone', 'size', 'count'] as const
  return slots.filter((slot) => a[slot] !== b[slot]).length
}

/** False states of a region that differ from the truth as little as possible: one attribute, or presence. */
function nearMisses(region: Region, truth: RegionState): RegionState[] {
  const states = possibleStates(region)
  if (!truth) return states.filter((state) => state !== null)
  const near = states.filter((state) => {
    if (!state || state.type !== truth.type) return false
    const slots = ['side', 'zone', 'size', 'count'] as const
    return slots.filter((slot) => state[slot] !== truth[slot]).length === 1
  })
  return near.length > 0 ? [...near, null] : [null]
}

/** A sentence of a report with what `target` says of its region; null if it is not ours. */
function sayAgain(text: string, target: (region: Region) => RegionState): string | null {
  for (const region of REGIONS) {
    const read = regionStatements(region).get(text.trim())
    if (read) return replaceTrimmed(text, sayRegion(region, target(region), read.style))
  }
  return null
}

/** Keeps the spaces around a text. */
const replaceTrimmed = (text: string, said: string) => text.replace(text.trim(), () => said)

const CATEGORY_WORDS: readonly (readonly [EditCategory, RegExp])[] = [
  ['presence', /\b(yes|no|absent|present|normal|enlarged)\b/i],
  ['finding', /\b(nodule|opacity|effusion|fracture|pacemaker)\b/i],
  ['laterality', /\b(left|right)\b/i],
  ['location', /\b(upper|middle|lower)\b/i],
  ['size', /\b(small|large)\b/i],
  ['count', /\b(one|two|three|[123]|nodules)\b/i],
]

/** The first kind of word, in order of weight, that stands on one side and not, the same, on the other. */
export function categoryOf(before: string, after: string): EditCategory {
  for (const [category, pattern] of CATEGORY_WORDS) {
    if (pattern.exec(before)?.[0].toLowerCase() !== pattern.exec(after)?.[0].toLowerCase()) return category
  }
  return 'presence'
}
