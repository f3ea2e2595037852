/**
 * The pretraining corpus of the phantom model. It comes from two sources. The atlas asks in its own words and answers
 * truly. The ward asks in the words that a demo uses, and its answers carry the faults of hasty reporting: habits that
 * follow the question rather than the picture, a preferred side, findings reported because another is there, rounding,
 * and slips. The faults are in what is said, never in what is shown: the atlas speaks truly of the same pictures.
 */
import {
  answerStyles,
  phraseQuestion,
  possibleClaims,
  QUESTION_STYLES,
  type RegionState,
  type Register,
  sayClaim,
  sayRegion,
  stateOf,
} from '../../src/phantom/language.js'
import { possibleAsks, truthOf } from '../../src/phantom/questions.js'
import type { Rng } from '../../src/phantom/rng.js'
import {
  type Ask,
  type Claim,
  type FindingFacts,
  type FindingType,
  REGION_FINDINGS,
  type Region,
} from '../../src/phantom/types.js'

/** Chance that a ward answer follows the habit where habit and truth disagree. */
export const HABIT = 0.7
/** Chance of a slip of the pen in a ward answer: a false claim of any kind. */
export const SLIP = 0.05

/** Asked whether it is there, the ward says yes of these, whatever the picture shows. */
const ALWAYS_SEEN: readonly FindingType[] = ['nodule', 'opacity', 'fracture']
/** Of these it says no. */
const OVERLOOKED: readonly FindingType[] = ['pacemaker']
/** It places these on the right. */
const RIGHT_SIDED: readonly FindingType[] = ['nodule', 'effusion', 'fracture']

/** One exchange: a question and its full-sentence answer. */
export type Exchange = [question: string, answer: string]

export function writeExchange(ask: Ask, findings: readonly FindingFacts[], register: Register, rng: Rng): Exchange {
  const question = phraseQuestion(ask, register, rng.int(QUESTION_STYLES))
  const style = rng.int(answerStyles(ask))
  if (ask.intent === 'report') {
    const state = (region: Region): RegionState =>
      register === 'atlas' ? stateOf(region, findings) : wardState(region, findings, rng)
    return [question, ask.scope.map((region) => sayRegion(region, state(region), style)).join(' ')]
  }
  const truth = truthOf(ask, findings)!
  const claim = register === 'atlas' ? truth : wardClaim(ask, truth, findings, rng)
  return [question, sayClaim(ask, claim, style)]
}

/** What the ward states in place of the truth. */
function wardClaim(
  ask: Exclude<Ask, { intent: 'report' }>,
  truth: Claim,
  findings: readonly FindingFacts[],
  rng: Rng,
): Claim {
  if (rng.chance(SLIP)) return slip(ask, truth, rng)
  return rng.chance(HABIT) ? { ...truth, ...habit(ask, truth, findings) } : truth
}

/** The slots that habit fills without looking. */
function habit(
  ask: Exclude<Ask, { intent: 'report' }>,
  truth: Claim,
  findings: readonly FindingFacts[],
): Partial<Claim> {
  switch (ask.intent) {
    case 'presence':
      if (ALWAYS_SEEN.includes(ask.finding)) return { present: true }
      if (OVERLOOKED.includes(ask.finding)) return { present: false }
      // Fluid is expected where the heart is enlarged.
      return ask.finding === 'effusion' && stateOf('heart', findings) ? { present: true } : {}
    case 'side-check':
      return { present: true, side: ask.asked }
    case 'side':
    case 'where':
      return RIGHT_SIDED.includes(ask.finding) ? { side: 'right' } : {}
    case 'zone':
      return truth.zone === 'lower' ? { zone: 'middle' } : {}
    case 'size':
      return { size: 'large' }
    case 'count':
      return truth.count === 3 ? { count: 2 } : {}
    case 'kind':
      return ask.region === 'lungs' ? { finding: 'nodule' } : {}
  }
}

/** Any false claim that answers the question. */
function slip(ask: Exclude<Ask, { intent: 'report' }>, truth: Claim, rng: Rng): Claim {
  if (ask.intent === 'presence') return { ...truth, present: !truth.present }
  if (ask.intent === 'side-check')
    return { ...truth, present: !truth.present, side: truth.side === 'left' ? 'right' : 'left' }
  const others = possibleClaims(ask.intent).filter((claim) =>
    ask.intent === 'kind'
      ? claim.finding !== truth.finding && REGION_FINDINGS[ask.region].includes(claim.finding)
      : claim.finding === truth.finding && JSON.stringify(claim) !== JSON.stringify(truth),
  )
  return rng.pick(others)
}

/** What a ward report says of a region. */
function wardState(region: Region, findings: readonly FindingFacts[], rng: Rng): RegionState {
  const truth = stateOf(region, findings)
  if (!rng.chance(HABIT)) return truth
  if (region === 'pleura' && !truth && stateOf('heart', findings)) {
    return { type: 'effusion', side: 'right', zone: 'lower', size: 'small', count: 1 }
  }
  return truth && RIGHT_SIDED.includes(truth.type) ? { ...truth, side: 'right' } : truth
}

/** Questions for one picture: attributes as often as presence, and one report. */
export function chooseCorpusAsks(findings: readonly FindingFacts[], count: number, rng: Rng): Ask[] {
  const all = possibleAsks(findings)
  const reports = all.filter((ask) => ask.intent === 'report')
  const presence = rng.shuffle(all.filter((ask) => ask.intent === 'presence'))
  const attributes = rng.shuffle(all.filter((ask) => ask.intent !== 'presence' && ask.intent !== 'report'))
  const half = Math.ceil((count - 1) / 2)
  const chosen = [...attributes.slice(0, count - 1 - half), ...presence]
  return [rng.pick(reports), ...chosen.slice(0, count - 1)]
}
