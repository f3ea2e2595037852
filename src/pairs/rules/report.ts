/** One sentence of a report against a reference report: what the reference says of the same things. */
import { undecided, type Verdict } from '../../data/records.js'
import { conflicts, includes, isThing, keyOf, keysOf, settles } from './compare.js'
import type { Claim } from './grammar/claims.js'
import { openWordsOf, roleOf, scan } from './grammar/lexemes.js'
import { splitSegments } from './grammar/tokens.js'
import type { Feature } from './grammar/types.js'
import { groupNamed } from './lexicon.js'
import { readText, type Statement } from './reading.js'

/** A claim of the sentence, whether the reference says so too, and the claim of the reference that tells. */
export interface Checked {
  claim: Claim
  statement: Statement
  right: boolean
  by: Claim
}

export interface JudgedSentence extends Verdict {
  /** Claims that the reference settles. */
  checked: Checked[]
  /** Every claim is settled by the reference. */
  whole: boolean
  /** It names things that the reference names, and yet the reference does not settle it: it may be wrong. */
  mayBeWrong: boolean
}

interface Facts {
  claims: Claim[]
  /** What a clear organ does not have, with the organ. */
  absences: { claim: Claim; organ: Feature }[]
  /** Things of sentences that could not be read: nothing is known of them. */
  unread: Feature[]
}

interface ReportSubject {
  question: string
  reference: string
  text: string
}

export function readReportSentence({ question, reference, text }: ReportSubject): JudgedSentence {
  const context = { open: openWordsOf(reference, question), asked: [] }
  const facts = factsOf(reference, context.open)
  const asked = scan(question).features
  const open = (reason: string, mayBeWrong: boolean): JudgedSentence => ({
    ...{ correct: false, decided: false, reason, checked: [], whole: false, mayBeWrong },
  })
  const reading = readText(text, context)
  if (reading.problem) return open(reading.problem, mayContradict(text, reference, facts))
  if (reading.leads.length > 0) return open('yes or no in a report', true)
  const checked: Checked[] = []
  let silent: string | null = null
  for (const statement of reading.statements) {
    for (const claim of statement.claims) {
      const found = check(claim, facts, asked)
      if (typeof found === 'string') silent = found
      else checked.push({ claim, statement, ...found })
    }
  }
  const wrong = checked.find(({ right }) => !right)
  const rest = { checked, whole: silent === null, mayBeWrong: silent !== null && mayContradict(text, reference, facts) }
  if (wrong) return { correct: false, decided: true, reason: `against the reference: ${named(wrong.claim)}`, ...rest }
  if (silent !== null) return { ...undecided(silent), ...rest }
  if (checked.length === 0) return open('nothing is said', false)
  return { correct: true, decided: true, reason: `as the reference: ${named(checked[0].claim)}`, ...rest }
}

const named = ({ about, says, positive }: Claim): string =>
  `${positive ? '' : 'no '}${[...about, ...says].map(({ term }) => term).join(' ')}`

/** Whether two texts name a thing in common. */
function touches(a: string, b: string): boolean {
  const things = (text: string) => scan(text).features.filter((feature) => isThing(feature) && feature.group !== 'word')
  const keys = keysOf(things(b))
  return things(a).some((feature) => keys.has(keyOf(feature)))
}

/** "The lungs are clear", "no obstruction", "menisci intact" speak of parts and findings that they do not name. */
const isGeneral = ({ positive, kind, says }: Claim): boolean =>
  positive ? kind === 'is' && says.some(({ group, term }) => SOUND.has(`${group} ${term}`)) : kind === 'there'
const SOUND = new Set([
  'clearness clear',
  'normality normal',
  'integrity intact',
  'patency patent',
  'extent normal size',
])

const isBony = ({ group, term }: Feature): boolean => /^(?:bone|joint)$/.test(group) || term === 'bone'

const isKin = (a: Feature, b: Feature): boolean =>
  a.group === 'finding' && b.group === 'finding' && groupNamed('finding')?.isNear(a.term, b.term) === true

/**
 * Whether a sentence that nothing settles may be wrong: it names what the reference names, or it finds something where the
 * reference finds all well. Another organ than the one that is well is none of its parts.
 */
function mayContradict(text: string, reference: string, { claims }: Facts): boolean {
  if (touches(text, reference)) return true
  const { features } = scan(text)
  const own = features.filter((feature) => roleOf(feature) === 'organ')
  return claims.filter(isGeneral).some(({ positive, about }) => {
    if (!positive) return about.some((thing) => thing.group === 'word' || features.some((other) => isKin(thing, other)))
    const organs = about.filter((feature) => roleOf(feature) === 'organ')
    const isElsewhere = (a: Feature) =>
      organs.every((b) => !(isBony(a) && isBony(b)) && (a.group !== b.group || conflicts(a, b)))
    return own.length === 0 || organs.length === 0 || !own.every(isElsewhere)
  })
}

const remembered = new Map<string, Facts>()

/** The claims of a reference, sentence by sentence; notes ("effusion, left, large; lungs clear") count as sentences. */
function factsOf(reference: string, open: ReadonlySet<string>): Facts {
  const known = remembered.get(reference)
  if (known) return known
  const facts: Facts = { claims: [], absences: [], unread: [] }
  for (const { start, end } of splitSegments(reference)) {
    const text = reference.slice(start, end)
    const reading = readText(text, { open, asked: [] })
    const note = reading.problem ? null : noteOf(text, reading.statements)
    if (reading.problem || reading.leads.length > 0) facts.unread.push(...scan(text).features.filter(isThing))
    else facts.claims.push(...(note ? [note] : reading.statements.flatMap(({ claims }) => claims)))
  }
  facts.absences = facts.claims.flatMap(absencesOf)
  remembered.clear()
  remembered.set(reference, facts)
  return facts
}

/** "Effusion, left, large" is one finding with what narrows it down. */
function noteOf(text: string, statements: readonly Statement[]): Claim | null {
  const claims = statements.flatMap((statement) => statement.claims)
  const [first, ...more] = claims
  if (!first || more.length === 0 || !/^[^,]+,/.test(text)) return null
  const isDetail = ({ about, says, positive, clause }: Claim) =>
    clause.rule === 'fragment' && positive && [...about, ...says].every((feature) => !isThing(feature))
  if (first.kind !== 'there' || !first.positive || !more.every(isDetail)) return null
  return { ...first, about: [first, ...more].flatMap(({ about, says }) => [...about, ...says]) }
}

/** A clear organ has none of the findings that would not leave it clear. */
function absencesOf(claim: Claim): Facts['absences'] {
  const isClear = claim.says.some(({ group, term }) => group === 'clearness' && term === 'clear')
  if (claim.kind !== 'is' || !claim.positive || !isClear) return []
  const [organ, ...others] = claim.about.filter(isThing)
  if (!organ || others.length > 0) return []
  const places = claim.about.filter((feature) => feature !== organ)
  const findings = groupNamed('finding')?.inside.get(organ.term) ?? []
  return findings.map((term) => {
    const about = [{ ...organ, group: 'finding', term }, ...places]
    return { claim: { ...claim, kind: 'there', positive: false, says: [], about }, organ }
  })
}

/** What the reference makes of a claim, or why it does not settle it. */
function check(claim: Claim, facts: Facts, asked: readonly Feature[]): { right: boolean; by: Claim } | string {
  if (claim.kind === 'echo' || claim.pronoun) return 'it is open what it speaks of'
  const things = claim.about.filter(isThing)
  const unread = things.find((thing) => roleOf(thing) === 'finding' && includes(facts.unread, [thing]))
  if (unread) return `the rules cannot read what the reference says of "${unread.term}"`
  // What the question names is understood: "describe the lungs" leaves no doubt where a nodule is.
  const context = keysOf(asked.filter((feature) => roleOf(feature) === 'organ'))
  const hasFinding = claim.about.some((feature) => roleOf(feature) === 'finding')
  const about = hasFinding ? claim.about.filter((feature) => !context.has(keyOf(feature))) : claim.about
  const proposition: Claim = { ...claim, about, positive: true }
  const same = facts.claims.filter(
    ({ about: other, positive }) =>
      positive &&
      things.length > 0 &&
      includes(
        other,
        things.filter((t) => roleOf(t) === 'finding'),
      ),
  )
  const votes = new Map<boolean, Claim>()
  // A nodule is not in the lungs because they are clear, but it may be elsewhere.
  const isWithin = (organ: Feature) =>
    things.every((thing) => roleOf(thing) === 'finding' || keyOf(thing) === keyOf(organ)) &&
    (context.has(keyOf(organ)) || includes(things, [organ]))
  const absences = facts.absences.filter(({ organ }) => isWithin(organ)).map((absence) => absence.claim)
  for (const fact of [...facts.claims, ...absences]) {
    // The only one of its kind is the one that is meant, wherever the sentence puts it.
    const isOnly = fact.positive && fact.kind === 'there' && same.length === 1 && same[0] === fact
    const relation = settles(isOnly ? { ...fact, definite: true } : fact, proposition)
    if (relation !== 'open') votes.set((relation === 'same') === claim.positive, fact)
  }
  if (votes.size > 1) return 'the reference says two things of it'
  const [vote] = votes
  if (!vote) return `the reference does not speak of "${named({ ...claim, positive: true })}"`
  return { right: vote[0], by: vote[1] }
}
