/**
 * The language of the world: what is asked, the terse references, and the sentences in which a claim can be made.
 * Every sentence that a template can make is listed (`statements`), so that a sentence is read by look-up, and an answer
 * is edited by saying its corrected claim through the same template.
 */
import {
  type Ask,
  type Claim,
  COUNTS,
  type FindingFacts,
  type FindingType,
  REGION_FINDINGS,
  REGIONS,
  type Region,
  SIDES,
  SIZES,
  ZONES,
} from './types.js'

const NOUNS: Readonly<Record<FindingType, string>> = {
  cardiomegaly: 'enlarged heart',
  effusion: 'effusion',
  nodule: 'nodule',
  opacity: 'opacity',
  fracture: 'fracture',
  pacemaker: 'pacemaker',
}

export const COUNT_WORDS: readonly string[] = ['no', 'one', 'two', 'three']

/** How questions are put: `atlas` as a teaching file does, `ward` as a hurried reader does. A demo asks in `ward`. */
export type Register = 'atlas' | 'ward'

type VqaIntent = Exclude<Ask['intent'], 'report'>
type Say = (claim: Claim, ask: Ask) => string

/** "a nodule", "an effusion". */
function withArticle(words: string): string {
  return `${/^[aeiou]/.test(words) ? 'an' : 'a'} ${words}`
}

const QUESTIONS: Record<Register, Record<VqaIntent, readonly string[]>> = {
  ward: {
    presence: ['Is there {a}?', 'Do you see {a}?', 'Is {a} seen here?'],
    'side-check': ['Is the {n} on the {s}?', 'Is the {n} {s} sided?'],
    side: ['Which side is the {n} on?', 'On what side do you see the {n}?'],
    zone: ['Which zone is the {n} in?', 'In what zone do you see the {n}?'],
    where: ['Where is the {n}?', 'Where do you see the {n}?'],
    size: ['How big is the {n}?', 'What size is the {n}?'],
    count: ['How many {n}s are there?', 'How many {n}s do you see?'],
    kind: ['What is wrong in the {r}?', 'What do you see in the {r}?'],
  },
  atlas: {
    presence: ['Does the radiograph show {a}?', 'State whether {a} can be found.', 'Check this image for {a}.'],
    'side-check': ['Does the {n} lie on the {s}?', 'State whether the {n} lies on the {s}.'],
    side: ['State the side of the {n}.', 'Name the side that holds the {n}.'],
    zone: ['State the zone of the {n}.', 'Name the zone that holds the {n}.'],
    where: ['State where the {n} lies.', 'Locate the {n}.'],
    size: ['State the size of the {n}.', 'Grade the size of the {n}.'],
    count: ['State the number of {n}s.', 'Count the {n}s.'],
    kind: ['State the abnormality of the {r}.', 'Name the abnormality of the {r}.'],
  },
}

const REPORT_QUESTIONS: Record<Register, readonly string[]> = {
  ward: ['Describe the {r}.', 'What about the {r}?'],
  atlas: ['Report on the {r}.', 'State the findings of the {r}.'],
}

const REGION_NAMES: Readonly<Record<Region, string>> = {
  heart: 'heart',
  pleura: 'pleura',
  lungs: 'lungs',
  wall: 'chest wall',
}

/** Draw a style below this, and every phrasing of an intent (two or three) is equally likely. */
export const QUESTION_STYLES = 6

/** The question in words. `style` picks a phrasing; it wraps around. */
export function phraseQuestion(ask: Ask, register: Register, style: number): string {
  if (ask.intent === 'report') {
    const forms = REPORT_QUESTIONS[register]
    return forms[style % forms.length]!.replace('{r}', joinNames(ask.scope.map((region) => REGION_NAMES[region])))
  }
  const forms = QUESTIONS[register][ask.intent]
  const noun = NOUNS[ask.finding]
  return forms[style % forms.length]!.replace('{a}', withArticle(noun))
    .replace('{n}', noun)
    .replace('{s}', ask.intent === 'side-check' ? ask.asked : '')
    .replace('{r}', ask.intent === 'kind' ? REGION_NAMES[ask.region] : '')
}

function joinNames(names: readonly string[]): string {
  if (names.length < 2) return names.join('')
  return `${names.slice(0, -1).join(', ')} and ${names[names.length - 1]}`
}

const yes = (claim: Claim): string => (claim.present ? 'Yes' : 'No')
const the = (claim: Claim): string => `the ${NOUNS[claim.finding]}`

/** The sentences of an answer, by intent. Each template can state every claim of its intent. */
const TEMPLATES: Record<VqaIntent, readonly Say[]> = {
  presence: [
    (c) => `${yes(c)}, there is ${c.present ? withArticle(NOUNS[c.finding]) : `no ${NOUNS[c.finding]}`}.`,
    (c) => `${yes(c)}, the image shows ${c.present ? withArticle(NOUNS[c.finding]) : `no ${NOUNS[c.finding]}`}.`,
    (c) => `${yes(c)}, ${withArticle(NOUNS[c.finding])} is ${c.present ? 'present' : 'absent'}.`,
  ],
  'side-check': [
    (c) => `${yes(c)}, ${the(c)} is on the ${c.side}.`,
    (c) => `${yes(c)}, ${the(c)} lies on the ${c.side} side.`,
  ],
  side: [
    (c) => `The ${NOUNS[c.finding]} is on the ${c.side} side.`,
    (c) => `There is ${withArticle(NOUNS[c.finding])} on the ${c.side}.`,
  ],
  zone: [
    (c) => `The ${NOUNS[c.finding]} is in the ${c.zone} zone.`,
    (c) => `There is ${withArticle(NOUNS[c.finding])} in the ${c.zone} zone.`,
  ],
  where: [
    (c) => `The ${NOUNS[c.finding]} is in the ${c.side} ${c.zone} zone.`,
    (c) => `There is ${withArticle(NOUNS[c.finding])} in the ${c.side} ${c.zone} zone.`,
  ],
  size: [(c) => `The ${NOUNS[c.finding]} is ${c.size}.`, (c) => `This is a ${c.size} ${NOUNS[c.finding]}.`],
  count: [
    (c) =>
      c.count === 1 ? `There is one ${NOUNS[c.finding]}.` : `There are ${COUNT_WORDS[c.count!]} ${NOUNS[c.finding]}s.`,
    (c) => `The number of ${NOUNS[c.finding]}s is ${COUNT_WORDS[c.count!]}.`,
  ],
  kind: [
    (c) => `The abnormality is ${withArticle(NOUNS[c.finding])}.`,
    (c) => `The image shows ${withArticle(NOUNS[c.finding])}.`,
  ],
}

export function answerStyles(ask: Ask): number {
  return ask.intent === 'report' ? REPORT_STYLES : TEMPLATES[ask.intent].length
}

/** A full sentence that states `claim` as an answer to `ask`. */
export function sayClaim(ask: Exclude<Ask, { intent: 'report' }>, claim: Claim, style: number): string {
  const forms = TEMPLATES[ask.intent]
  return forms[style % forms.length]!(claim, ask)
}

export interface Statement {
  claim: Claim
  style: number
}

/** Every sentence that can answer a question of this intent, true or not, about any finding. */
export function statements(ask: Exclude<Ask, { intent: 'report' }>): Map<string, Statement> {
  const out = new Map<string, Statement>()
  for (const claim of possibleClaims(ask.intent)) {
    for (let style = 0; style < TEMPLATES[ask.intent].length; style++)
      out.set(sayClaim(ask, claim, style), { claim, style })
  }
  return out
}

/** All values that the slots of an intent can take, for all findings. */
export function possibleClaims(intent: VqaIntent): Claim[] {
  const out: Claim[] = []
  for (const region of REGIONS) {
    for (const finding of REGION_FINDINGS[region]) {
      // Only nodules are counted.
      if (intent === 'count' && finding !== 'nodule') continue
      for (const present of intent === 'presence' || intent === 'side-check' ? [true, false] : [undefined]) {
        for (const side of intent === 'side' || intent === 'where' || intent === 'side-check' ? SIDES : [undefined]) {
          for (const zone of intent === 'zone' || intent === 'where' ? ZONES : [undefined]) {
            for (const size of intent === 'size' ? SIZES : [undefined]) {
              for (const count of intent === 'count' ? COUNTS : [undefined]) {
                out.push(dropUndefined({ finding, present, side, zone, size, count }))
              }
            }
          }
        }
      }
    }
  }
  return out
}

function dropUndefined(claim: { [K in keyof Claim]: Claim[K] | undefined }): Claim {
  return Object.fromEntries(Object.entries(claim).filter(([, value]) => value !== undefined)) as unknown as Claim
}

/** What a region is said to hold: one finding, or nothing. */
export type RegionState = FindingFacts | null

const REPORT_STYLES = 2

/** One sentence of a report on one region. */
export function sayRegion(region: Region, state: RegionState, style: number): string {
  const verb = style % REPORT_STYLES === 0 ? 'There is' : 'The image shows'
  if (region === 'heart') {
    return `The heart ${style % REPORT_STYLES === 0 ? 'is' : 'appears'} ${state ? 'enlarged' : 'normal'}.`
  }
  if (!state) return `${verb} no ${REGION_FINDINGS[region].map((type) => NOUNS[type]).join(' or ')}.`
  return `${verb} ${findingPhrase(state)}.`
}

function findingPhrase(state: FindingFacts): string {
  const noun = NOUNS[state.type]
  if (state.type === 'effusion') return `${withArticle(`${state.size} ${state.side} ${noun}`)}`
  if (state.type === 'pacemaker') return `${withArticle(noun)} on the ${state.side} side`
  const sized = state.size ? `${state.size} ${noun}` : noun
  // "There is" stands for several too, as it does in hurried speech: one verb keeps every edit inside the noun phrase.
  if (state.count > 1) return `${COUNT_WORDS[state.count]} ${sized}s in the ${state.side} lung`
  return `${withArticle(sized)} in the ${state.side} ${state.zone} zone`
}

/** Every state that a region can be said to be in. */
export function possibleStates(region: Region): RegionState[] {
  const base = { side: null, zone: null, size: null, count: 1 }
  if (region === 'heart') return [null, { type: 'cardiomegaly', ...base }]
  const sided = (type: FindingType, rest: Partial<FindingFacts>[]): FindingFacts[] =>
    SIDES.flatMap((side) => rest.map((extra) => ({ type, ...base, side, ...extra })))
  if (region === 'pleura')
    return [
      null,
      ...sided(
        'effusion',
        SIZES.map((size) => ({ zone: 'lower' as const, size })),
      ),
    ]
  const zones = ZONES.map((zone) => ({ zone }))
  if (region === 'wall') return [null, ...sided('fracture', zones), ...sided('pacemaker', [{ zone: 'upper' }])]
  const single = SIZES.flatMap((size) => ZONES.map((zone) => ({ size, zone })))
  const several = SIZES.flatMap((size) => [2, 3].map((count) => ({ size, count })))
  return [null, ...sided('nodule', [...single, ...several]), ...sided('opacity', zones)]
}

/** Every sentence that a report can hold on a region. */
export function regionStatements(region: Region): Map<string, { state: RegionState; style: number }> {
  const out = new Map<string, { state: RegionState; style: number }>()
  for (const state of possibleStates(region)) {
    for (let style = 0; style < REPORT_STYLES; style++) out.set(sayRegion(region, state, style), { state, style })
  }
  return out
}

export function stateOf(region: Region, findings: readonly FindingFacts[]): RegionState {
  return findings.find((finding) => REGION_FINDINGS[region].includes(finding.type)) ?? null
}

/** A report in full sentences, one for each region of the scope. */
export function sayReport(scope: readonly Region[], findings: readonly FindingFacts[], style: number): string {
  return scope.map((region) => sayRegion(region, stateOf(region, findings), style)).join(' ')
}

/** A report as a chart notes it: "heart normal; effusion, left lower, large; no nodule or opacity". */
export function terseReport(scope: readonly Region[], findings: readonly FindingFacts[]): string {
  const notes = scope.map((region) => {
    const state = stateOf(region, findings)
    if (!state) return region === 'heart' ? 'heart normal' : `no ${REGION_FINDINGS[region].join(' or ')}`
    const where = [state.side, state.zone].filter(Boolean).join(' ')
    const number = state.count > 1 ? `x${state.count}` : null
    return [state.type, number, where, state.size].filter(Boolean).join(', ')
  })
  return notes.join('; ')
}
