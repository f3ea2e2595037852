/** Judges any answer by the words it uses, so that an answer outside the world's own sentences is judged too. */
import { undecided, type Verdict } from '../data/records.js'
import { COUNT_WORDS, stateOf } from './language.js'
import {
  type Ask,
  type Claim,
  FINDING_TYPES,
  type FindingFacts,
  type FindingType,
  REGION_FINDINGS,
  type Region,
  regionOf,
  SIDES,
  SIZES,
  type Truth,
  ZONES,
} from './types.js'

const NEGATIONS = new Set(['no', 'not', 'absent', 'without', 'none', 'neither', 'nor'])

const FINDING_WORDS: Readonly<Record<FindingType, RegExp>> = {
  cardiomegaly: /\b(enlarged (heart|cardiac)|heart (is|appears|looks) (enlarged|large|big)|cardiomegaly)\b/,
  effusion: /\beffusions?\b/,
  nodule: /\bnodules?\b/,
  opacity: /\bopacit(y|ies)\b/,
  fracture: /\bfractures?\b/,
  pacemaker: /\bpacemakers?\b/,
}

/** Judges a whole answer: a report must state every region that was asked for. */
export function judge({ ask, claim, findings }: Truth, answer: string): Verdict {
  const text = normalize(answer)
  if (text === '') return undecided('the answer is empty')
  if (ask.intent === 'report') return judgeReport(ask.scope, findings, text)
  return judgeClaim(ask, claim!, text)
}

/** Judges one sentence of a report by the region it is about. */
export function judgeSentence({ findings }: Truth, sentence: string): Verdict {
  const read = readSentence(normalize(sentence))
  return 'reason' in read ? read : judgeRegion(read, findings)
}

function judgeClaim(ask: Exclude<Ask, { intent: 'report' }>, truth: Claim, text: string): Verdict {
  const named = FINDING_TYPES.filter((type) => FINDING_WORDS[type].test(text))
  if (ask.intent === 'kind') return compare('finding', named, truth.finding)
  const other = named.find((type) => type !== ask.finding)
  if (other) return undecided(`the question is about ${ask.finding}, the answer about ${other}`)
  switch (ask.intent) {
    case 'presence':
      return compare('presence', polarities(text), truth.present!)
    case 'side-check':
      return judgeSideCheck(truth, text)
    case 'side':
      return compare('side', spoken(text, SIDES), truth.side)
    case 'zone':
      return compare('zone', spoken(text, ZONES), truth.zone)
    case 'size':
      return compare('size', spoken(text, SIZES), truth.size)
    case 'count':
      return compare('count', spokenCounts(text), truth.count)
    case 'where':
      return both(compare('side', spoken(text, SIDES), truth.side), compare('zone', spoken(text, ZONES), truth.zone))
  }
}

/** Yes or no decides; a side that is named must be the true one. */
function judgeSideCheck(truth: Claim, text: string): Verdict {
  const leading = /^(yes|no)\b/.exec(text)?.[1]
  if (!leading) return undecided('neither yes nor no')
  const said = compare('answer', [leading === 'yes'], truth.present!)
  const sides = spoken(text, SIDES)
  return sides.length === 0 || /\bnot\b/.test(text) ? said : both(said, compare('side', sides, truth.side))
}

/** Every region asked for must be stated once and truly; nothing else may be claimed falsely. */
function judgeReport(scope: readonly Region[], findings: readonly FindingFacts[], text: string): Verdict {
  const stated = new Set<Region>()
  for (const sentence of text.split(/(?<=[.;])\s+/)) {
    const read = readSentence(sentence)
    if ('reason' in read) return read
    if (stated.has(read.region)) return undecided(`the ${read.region} is described twice`)
    stated.add(read.region)
    const verdict = judgeRegion(read, findings)
    if (!verdict.correct) return verdict
  }
  const missing = scope.find((region) => !stated.has(region))
  return missing ? undecided(`nothing is said of the ${missing}`) : { correct: true, decided: true, reason: 'all true' }
}

/** A sentence with the one region it is about and the findings it names. */
interface RegionSentence {
  sentence: string
  region: Region
  types: FindingType[]
}

function readSentence(sentence: string): RegionSentence | Verdict {
  const types = FINDING_TYPES.filter((type) => FINDING_WORDS[type].test(sentence))
  const regions = new Set<Region>(types.map(regionOf))
  if (/\bheart\b/.test(sentence)) regions.add('heart')
  if (regions.size !== 1) return undecided(`a sentence is about ${regions.size} regions: "${sentence}"`)
  return { sentence, region: [...regions][0]!, types }
}

function judgeRegion(read: RegionSentence, findings: readonly FindingFacts[]): Verdict {
  const reason = sentenceFault(read, stateOf(read.region, findings))
  return { correct: reason === null, decided: true, reason: reason ?? `the ${read.region} is described truly` }
}

/** What is false in a sentence on a region, or null. */
function sentenceFault({ sentence, region, types }: RegionSentence, state: FindingFacts | null): string | null {
  const negative = isNegative(sentence) || (region === 'heart' && /\bnormal\b/.test(sentence))
  if (negative) {
    const denied = types.length > 0 ? types : REGION_FINDINGS[region]
    return state && denied.includes(state.type) ? `denies the ${state.type}` : null
  }
  if (types.length !== 1) return `the ${region} is not described`
  if (!state || state.type !== types[0]) return `reports ${types[0]} where there is ${state ? state.type : 'none'}`
  const checks = [
    state.side && compare('side', spoken(sentence, SIDES), state.side),
    state.zone &&
      region !== 'pleura' &&
      state.type !== 'pacemaker' &&
      compare('zone', spoken(sentence, ZONES), state.zone),
    state.size && compare('size', spoken(sentence, SIZES), state.size),
    state.type === 'nodule' && state.count > 1 && compare('count', spokenCounts(sentence), state.count),
    state.type === 'nodule' &&
      state.count === 1 &&
      /\b(two|three)\b/.test(sentence) &&
      compare('count', spokenCounts(sentence), 1),
  ]
  const failed = checks.find((check) => check && !check.correct)
  return failed ? failed.reason : null
}

function polarities(text: string): boolean[] {
  const leading = /^(yes|no)\b/.exec(text)?.[1]
  const rest = leading ? text.slice(leading.length) : text
  const out = new Set<boolean>()
  if (leading) out.add(leading === 'yes')
  if (isNegative(rest)) out.add(false)
  else if (words(rest).length > 0) out.add(true)
  return [...out]
}

function isNegative(text: string): boolean {
  return words(text).some((word) => NEGATIONS.has(word))
}

function spoken<T extends string>(text: string, values: readonly T[]): T[] {
  const said = new Set(words(text))
  return values.filter((value) => said.has(value))
}

function spokenCounts(text: string): number[] {
  const said = new Set(words(text))
  return [1, 2, 3].filter((count) => said.has(COUNT_WORDS[count]!) || said.has(String(count)))
}

function compare<T>(slot: string, said: readonly T[], truth: T): Verdict {
  if (said.length === 0) return undecided(`no ${slot} is stated`)
  if (said.length > 1) return undecided(`the ${slot} is stated in two ways`)
  if (said[0] === truth) return { correct: true, decided: true, reason: `the ${slot} is right` }
  return { correct: false, decided: true, reason: `the ${slot} is ${String(truth)}, not ${String(said[0])}` }
}

function both(a: Verdict, b: Verdict): Verdict {
  if (!a.decided) return a
  if (!b.decided) return b
  return a.correct ? b : a
}

function normalize(answer: string): string {
  return answer.trim().toLowerCase().replace(/\s+/g, ' ')
}

function words(text: string): string[] {
  return text.match(/[a-z0-9]+/g) ?? []
}
