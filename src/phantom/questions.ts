/** What can be asked of a study, the truth about it, and the questions that a study carries. */
import { phraseQuestion, QUESTION_STYLES, terseReport } from './language.js'
import type { Rng } from './rng.js'
import {
  type Ask,
  type Claim,
  FINDING_TYPES,
  type FindingFacts,
  type FindingType,
  REGIONS,
  type Region,
  regionOf,
  SIDES,
  type StudyQuestion,
} from './types.js'

/** Report scopes of two, three and four sentences. */
const SCOPES: readonly (readonly Region[])[] = [['heart', 'pleura'], ['heart', 'pleura', 'lungs'], REGIONS]

/** Every question whose premise holds for these findings. Attributes are asked of single findings only. */
export function possibleAsks(findings: readonly FindingFacts[]): Ask[] {
  const asks: Ask[] = FINDING_TYPES.map((finding) => ({ intent: 'presence', finding }))
  for (const scope of SCOPES) asks.push({ intent: 'report', scope: [...scope] })
  for (const found of findings) asks.push(...attributeAsks(found))
  return asks
}

function attributeAsks(found: FindingFacts): Ask[] {
  const finding = found.type
  if (finding === 'cardiomegaly') return []
  const asks: Ask[] = []
  if (finding === 'nodule') asks.push({ intent: 'count', finding })
  if (found.count > 1) return asks
  for (const asked of SIDES) asks.push({ intent: 'side-check', finding, asked })
  asks.push({ intent: 'side', finding })
  if (finding !== 'effusion' && finding !== 'pacemaker')
    asks.push({ intent: 'zone', finding }, { intent: 'where', finding })
  if (found.size) asks.push({ intent: 'size', finding })
  const region = regionOf(finding)
  if (region === 'lungs' || region === 'wall') asks.push({ intent: 'kind', finding, region })
  return asks
}

/** The true claim; null for a report, whose truth is the findings themselves. */
export function truthOf(ask: Ask, findings: readonly FindingFacts[]): Claim | null {
  if (ask.intent === 'report') return null
  const found = findings.find((finding) => finding.type === ask.finding)
  if (ask.intent === 'presence') return { finding: ask.finding, present: found !== undefined }
  if (!found) throw new RangeError(`a question of intent "${ask.intent}" needs a finding of type "${ask.finding}"`)
  const { type: finding, count } = found
  const side = found.side ?? undefined
  const zone = found.zone ?? undefined
  switch (ask.intent) {
    case 'side-check':
      return { finding, present: side === ask.asked, side: side! }
    case 'side':
      return { finding, side: side! }
    case 'zone':
      return { finding, zone: zone! }
    case 'where':
      return { finding, side: side!, zone: zone! }
    case 'size':
      return { finding, size: found.size! }
    case 'count':
      return { finding, count }
    case 'kind':
      return { finding }
  }
}

/** The reference answer, as a chart would note it. */
export function terseAnswer(ask: Ask, claim: Claim | null, findings: readonly FindingFacts[]): string {
  if (ask.intent === 'report') return terseReport(ask.scope, findings)
  if (!claim) throw new RangeError('a question needs its true claim')
  switch (ask.intent) {
    case 'presence':
    case 'side-check':
      return claim.present ? 'yes' : 'no'
    case 'side':
      return claim.side!
    case 'zone':
      return claim.zone!
    case 'where':
      return `${claim.side} ${claim.zone}`
    case 'size':
      return claim.size!
    case 'count':
      return String(claim.count)
    case 'kind':
      return claim.finding
  }
}

export function isClosed(ask: Ask): boolean {
  return ask.intent === 'presence' || ask.intent === 'side-check'
}

/** The questions of one study: up to three closed, two open and one report, in the demo's register. */
export function askStudy(
  id: string,
  findings: readonly FindingFacts[],
  rng: Rng,
  fullReports: boolean,
): StudyQuestion[] {
  return chooseAsks(findings, rng, fullReports).map((ask, index) => {
    const claim = truthOf(ask, findings)
    return {
      id: `${id}-q${index}`,
      task: ask.intent === 'report' ? 'report' : 'vqa',
      question: phraseQuestion(ask, 'ward', rng.int(QUESTION_STYLES)),
      answer: terseAnswer(ask, claim, findings),
      answerType: isClosed(ask) ? 'closed' : 'open',
      concept: ask.intent === 'report' ? 'report' : ask.finding,
      truth: {
        ask,
        claim,
        findings: findings.map(({ type, side, zone, size, count }) => ({ type, side, zone, size, count })),
      },
    }
  })
}

/** One presence question that is true and one that is false where possible, a side check, two open ones, one report. */
function chooseAsks(findings: readonly FindingFacts[], rng: Rng, fullReports: boolean): Ask[] {
  const here = findings.map((finding) => finding.type)
  const asks: Ask[] = []
  const presence = (types: readonly FindingType[]): void => {
    if (types.length > 0) asks.push({ intent: 'presence', finding: rng.pick(types) })
  }
  presence(here)
  presence(FINDING_TYPES.filter((type) => !here.includes(type)))
  const all = possibleAsks(findings)
  const checks = all.filter((ask) => ask.intent === 'side-check')
  if (checks.length > 0) asks.push(rng.pick(checks))
  const open = rng.shuffle(all.filter((ask) => !isClosed(ask) && ask.intent !== 'report'))
  asks.push(...open.slice(0, 2))
  const scope = rng.pick(SCOPES)
  asks.push({ intent: 'report', scope: [...(fullReports ? REGIONS : scope)] })
  return asks
}
