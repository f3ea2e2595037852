/** Minimal word edits between an answer and the same sentence with another claim. */
import { judge } from './judge.js'
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
import type { Rng } from './rng.js'
import {
  type Ask,
  type Claim,
  type EditCategory,
  type EditProposal,
  REGION_FINDINGS,
  REGIONS,
  type Region,
  type Study,
  type StudyQuestion,
} from './types.js'

/**
 * Edits that turn a wrong answer into a right one. Null if the answer is right already, or is not one of the world's
 * sentences, so that no minimal edit is known.
 */
export function repair(study: Study, question: StudyQuestion, answer: string): EditProposal[] | null {
  if (judge(study, question, answer).correct) return null
  const { ask, claim, findings } = question.truth
  if (ask.intent === 'report') return restate(answer, ask.scope, (region) => stateOf(region, findings))
  const read = statements(ask).get(answer.trim())
  return read ? shift(wordEdits(answer.trim(), sayClaim(ask, claim!, read.style)), answer) : null
}

/** Edits that turn a right answer into a plausible wrong one. Null if it is wrong, or is not one of the world's sentences. */
export function counterfactual(study: Study, question: StudyQuestion, answer: string, rng: Rng): EditProposal[] | null {
  if (!judge(study, question, answer).correct) return null
  const { ask, claim, findings } = question.truth
  if (ask.intent === 'report') {
    const struck = rng.pick(ask.scope)
    const truth = stateOf(struck, findings)
    const wrong = rng.pick(nearMisses(struck, truth))
    return restate(answer, ask.scope, (region) => (region === struck ? wrong : stateOf(region, findings)))
  }
  const read = statements(ask).get(answer.trim())
  if (!read) return null
  return shift(wordEdits(answer.trim(), sayClaim(ask, rng.pick(wrongClaims(ask, claim!)), read.style)), answer)
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

/** Edits that make each sentence of a report state what `target` says of its region; null if a sentence is not ours. */
function restate(
  answer: string,
  scope: readonly Region[],
  target: (region: Region) => RegionState,
): EditProposal[] | null {
  const edits: EditProposal[] = []
  const stated = new Set<Region>()
  for (const match of answer.matchAll(/[^.]+\./g)) {
    const sentence = match[0].trim()
    const offset = match.index + match[0].indexOf(sentence)
    const read = readRegion(sentence)
    if (!read || stated.has(read.region)) return null
    stated.add(read.region)
    for (const edit of wordEdits(sentence, sayRegion(read.region, target(read.region), read.style))) {
      edits.push({ ...edit, start: edit.start + offset, end: edit.end + offset })
    }
  }
  return scope.every((region) => stated.has(region)) && edits.length > 0 ? edits : null
}

function readRegion(sentence: string): { region: Region; style: number } | null {
  for (const region of REGIONS) {
    const read = regionStatements(region).get(sentence)
    if (read) return { region, style: read.style }
  }
  return null
}

/** Moves edits of the trimmed text to the text itself. */
function shift(edits: EditProposal[], answer: string): EditProposal[] | null {
  const by = answer.length - answer.trimStart().length
  return edits.length === 0 ? null : edits.map((edit) => ({ ...edit, start: edit.start + by, end: edit.end + by }))
}

interface Word {
  text: string
  start: number
  end: number
}

interface Hunk {
  aStart: number
  aEnd: number
  bStart: number
  bEnd: number
}

/** Word-level difference; every edit has words on both sides. */
export function wordEdits(from: string, to: string): EditProposal[] {
  const a = splitWords(from)
  const b = splitWords(to)
  return widen(hunks(a, b), a, b).map(({ aStart, aEnd, bStart, bEnd }) => {
    const start = a[aStart]!.start
    const end = a[aEnd - 1]!.end
    const replacement = to.slice(b[bStart]!.start, b[bEnd - 1]!.end)
    return { start, end, replacement, category: categoryOf(from.slice(start, end), replacement) }
  })
}

function splitWords(text: string): Word[] {
  return [...text.matchAll(/[\p{L}\p{N}]+|[^\s\p{L}\p{N}]/gu)].map((match) => ({
    text: match[0],
    start: match.index,
    end: match.index + match[0].length,
  }))
}

/** Differing runs by longest common subsequence of words. */
function hunks(a: readonly Word[], b: readonly Word[]): Hunk[] {
  const common = a.map(() => new Array<number>(b.length + 1).fill(0))
  common.push(new Array<number>(b.length + 1).fill(0))
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const same = a[i]!.text === b[j]!.text
      common[i]![j] = same ? common[i + 1]![j + 1]! + 1 : Math.max(common[i + 1]![j]!, common[i]![j + 1]!)
    }
  }
  const out: Hunk[] = []
  let open: Hunk | null = null
  let i = 0
  let j = 0
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i]!.text === b[j]!.text) {
      open = null
      i++
      j++
      continue
    }
    if (!open) {
      open = { aStart: i, aEnd: i, bStart: j, bEnd: j }
      out.push(open)
    }
    if (j >= b.length || (i < a.length && common[i + 1]![j]! >= common[i]![j + 1]!)) open.aEnd = ++i
    else open.bEnd = ++j
  }
  return out
}

/** Lets a bare insertion or deletion take in the common word before it (or after it), and joins hunks that then touch. */
function widen(found: readonly Hunk[], a: readonly Word[], b: readonly Word[]): Hunk[] {
  const out: Hunk[] = []
  for (const hunk of found) {
    let next = { ...hunk }
    if (next.aStart === next.aEnd || next.bStart === next.bEnd) {
      if (next.aStart > 0 && next.bStart > 0) next = { ...next, aStart: next.aStart - 1, bStart: next.bStart - 1 }
      else if (next.aEnd < a.length && next.bEnd < b.length)
        next = { ...next, aEnd: next.aEnd + 1, bEnd: next.bEnd + 1 }
    }
    const last = out[out.length - 1]
    if (last && next.aStart <= last.aEnd) out[out.length - 1] = { ...next, aStart: last.aStart, bStart: last.bStart }
    else out.push(next)
  }
  return out
}

const CATEGORY_WORDS: readonly (readonly [EditCategory, RegExp])[] = [
  ['presence', /\b(yes|no|absent|present|normal|enlarged)\b/i],
  ['finding', /\b(nodule|opacity|effusion|fracture|pacemaker)\b/i],
  ['laterality', /\b(left|right)\b/i],
  ['location', /\b(upper|middle|lower)\b/i],
  ['size', /\b(small|large)\b/i],
  ['count', /\b(one|two|three|nodules)\b/i],
]

/** The first kind of word, in order of weight, that stands on one side and not, the same, on the other. */
function categoryOf(before: string, after: string): EditCategory {
  for (const [category, pattern] of CATEGORY_WORDS) {
    if (pattern.exec(before)?.[0].toLowerCase() !== pattern.exec(after)?.[0].toLowerCase()) return category
  }
  return 'presence'
}
