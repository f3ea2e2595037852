/**
 * The verdict of the rules on an answer to a question. It is given only for a text that was understood whole: whatever is
 * hedged, quoted, conditional, contradictory or simply unknown leaves it undecided, with a reason that names the word.
 */
import { undecided, type Verdict } from '../../data/records.js'
import { closure, conflicts, includes, isThing, keyOf, keysOf, settles } from './compare.js'
import { followsFrom, isGuess } from './entail.js'
import type { Claim } from './grammar/claims.js'
import { openWordsOf, roleOf } from './grammar/lexemes.js'
import type { Feature } from './grammar/types.js'
import { groupNamed } from './lexicon.js'
import { type Asked, compares, readQuestion } from './question.js'
import { CONTRADICTION, type Lead, type Reading, readText, type Statement } from './reading.js'
import { readReportSentence } from './report.js'

export interface Subject {
  task: 'vqa' | 'report'
  question: string
  reference: string
  text: string
}

/** A claim that decides, and how it stands to the truth. */
export interface Decisive {
  claim: Claim
  statement: Statement
  right: boolean
}

/** A verdict with what it rests on, for edits. */
export interface Judged extends Verdict {
  leads: Lead[]
  decisive: Decisive[]
  /** What was asked for, as the reference gives it. */
  truth: Feature[]
  /** What the reference claims. */
  reference: Claim[]
  asked: Asked
}

/** Whether an answer that is right says no more than its reference does: what a repair must not do. */
export function isEntailed({ asked: { proposition, absence, features }, decisive, reference }: Judged): boolean {
  if (proposition === null || absence) return true
  // A claim that something persists is read as one that it is there; its denial is not.
  const lasting = features.filter((feature) => roleOf(feature) === 'lasting')
  const whole = { ...proposition, about: [...proposition.about, ...lasting] }
  return decisive.every(({ claim }) => followsFrom(claim, whole, reference))
}

/** The verdict alone. */
export function readAnswer(subject: Subject): Verdict {
  const { correct, decided, reason } = subject.task === 'report' ? readReportSentence(subject) : judgeAnswer(subject)
  return { correct, decided, reason }
}

/** T1 and T2 are weightings only where no level of the spine is asked for. */
const SPINE = /\b(?:vertebra[le]?|levels?|dis[ck]s?|spin(?:e|al)|nerve roots?)\b/i
const SPINAL_LEVEL = /\bT[12]\b/i

export function judgeAnswer({ question, reference, text }: Subject): Judged {
  const asked = readQuestion(question)
  const open = (reason: string): Judged => ({
    ...undecided(reason),
    ...{ leads: [], decisive: [], truth: [], reference: [], asked },
  })
  if (SPINE.test(question) && SPINAL_LEVEL.test(`${reference} ${text}`)) return open('T1 and T2 may be vertebrae')
  const context = { open: openWordsOf(question, reference), asked: [...asked.features, ...asked.offered] }
  const answer = readText(text, context)
  if (answer.problem) return open(answer.problem)
  const truth = readText(reference, context)
  if (truth.problem) return open(`the reference: ${truth.problem}`)
  return asked.kind === 'polar' ? judgePolar(asked, truth, answer, text) : judgeValue(asked, truth, answer, text)
}

const claimsOf = ({ statements }: Reading): { claim: Claim; statement: Statement }[] =>
  statements.flatMap((statement) => statement.claims.map((claim) => ({ claim, statement })))

/** Why a text takes back what it says itself; null where it does not, or cannot be read. */
export function contradiction({ question, reference, text }: Omit<Subject, 'task'>): string | null {
  const { decided, reason } = judgeAnswer({ task: 'vqa', question, reference, text })
  return !decided && reason === CONTRADICTION ? reason : null
}

/** Said of another thing than the question asks about, in words that the rules read. */
export const ELSEWHERE = 'it is about something else'

interface Settled {
  answer: 'yes' | 'no' | null
  reason: string
  decisive: { claim: Claim; statement: Statement }[]
}

/** Yes or no to the proposition. Every part that answers must answer alike. */
export function settle(asked: Asked, reading: Reading): Settled {
  const { proposition, negative } = asked
  const firm = reading.leads.filter(({ leans }) => !leans)
  const votes = new Set<'yes' | 'no'>(negative ? [] : firm.map(({ said }) => said))
  const leads = new Set(reading.leads.map(({ said }) => said))
  const decisive: Settled['decisive'] = []
  const none = (reason: string): Settled => ({ answer: null, reason, decisive: [] })
  if (leads.size > 1) return none('it says yes and no')
  let besides = ''
  for (const { claim, statement } of claimsOf(reading)) {
    const found = proposition ? settles(claim, proposition) : 'open'
    const relation =
      found === 'open' && proposition && leads.has('no') && narrows(claim, proposition) ? 'opposite' : found
    if (relation === 'open') {
      const shared = mainThings(proposition).find((feature) => includes(claim.about, [feature]))
      if (shared) return none(`what it says of "${shared.term}" leaves the question open`)
      besides = 'it says something else'
      continue
    }
    // "It has" says yes to whatever was asked; "it is there" says no to "has it been removed?".
    const agrees = claim.kind === 'echo' ? claim.positive : (relation === 'same') !== asked.absence
    votes.add(agrees ? 'yes' : 'no')
    decisive.push({ claim, statement })
  }
  if (votes.size > 1) return none(CONTRADICTION)
  const [answer] = votes
  if (!answer) return none(besides || (negative ? 'yes or no alone may mean either' : 'neither yes nor no'))
  if (besides && decisive.length === 0) return none(`beside ${answer} ${besides}`)
  return { answer, reason: `it says ${answer}`, decisive }
}

/** "No, there is no effusion on the left": beside its "no", a denial that says where goes along with it. */
function narrows({ kind, positive, about }: Claim, proposition: Claim): boolean {
  if (kind !== 'there' || positive || proposition.kind !== 'there' || !includes(about, proposition.about)) return false
  const more = about.filter((feature) => !includes(proposition.about, [feature]))
  return more.every((feature) => /^(?:place|organ|region|ordinal|level|image)$/.test(roleOf(feature)))
}

/** What a proposition is about in the first place: its finding, or else whatever it names. */
function mainThings(proposition: Claim | null): Feature[] {
  const things = proposition?.about.filter(isThing) ?? []
  const findings = things.filter((feature) => roleOf(feature) === 'finding')
  return findings.length > 0 ? findings : things
}

const namesSide = ({ proposition, features }: Asked): boolean =>
  (proposition ? [...proposition.about, ...proposition.says] : features).some(({ group }) => group === 'side')

/** "Right, …", where no side is asked for. */
const AGREEING = /^\W*right\s*[,.;:-]/i

function judgePolar(asked: Asked, truth: Reading, answer: Reading, text: string): Judged {
  const known = claimsOf(truth).map(({ claim }) => claim)
  const rest = { leads: answer.leads, truth: [], reference: known, asked }
  const open = (reason: string): Judged => ({ ...undecided(reason), ...rest, decisive: [] })
  if (AGREEING.test(text) && !namesSide(asked)) return open('"right" may agree')
  const expected = settle(asked, truth)
  if (!expected.answer) return open(`the reference: ${expected.reason}`)
  const said = settle(asked, answer)
  if (!said.answer) return open(said.reason)
  const { proposition } = asked
  const guess = said.decisive.find(({ claim }) => proposition && isGuess(claim, proposition, known))
  if (expected.answer === 'no' && guess) return open('the reference denies, and does not say what there is')
  const correct = said.answer === expected.answer
  const decisive = said.decisive.map((part) => ({ ...part, right: correct }))
  return { correct, decided: true, reason: said.reason, ...rest, decisive }
}

/** What a claim names that the question did not. */
const newOf = (features: readonly Feature[], asked: Asked): Feature[] => {
  const known = keysOf(asked.features)
  return features.filter((feature) => !known.has(keyOf(feature)))
}

const featuresOf = ({ about, says }: Claim): Feature[] => [...about, ...says]

/** Another value of the same kind than the reference's is wrong; a coarser or finer one, or none, is open. */
function judgeValue(asked: Asked, truth: Reading, answer: Reading, text: string): Judged {
  const rest = { leads: [], reference: claimsOf(truth).map(({ claim }) => claim), asked }
  const open = (reason: string): Judged => ({ ...undecided(reason), ...rest, truth: [], decisive: [] })
  if (asked.negative) return open('the question is negative')
  if (truth.leads.length > 0 || answer.leads.length > 0) return open('yes or no is no answer here')
  const known = claimsOf(truth)
  if (known.some(({ claim }) => !claim.positive || claim.kind === 'echo')) return open('the reference denies something')
  const all = known.flatMap(({ claim }) => featuresOf(claim))
  const wanted = newOf(all, asked).length > 0 ? newOf(all, asked) : all
  if (wanted.length === 0) return open('the reference names nothing that is known')
  const isName = ({ claim }: { claim: Claim }) => isFragment(claim) || claim.pronoun
  if (asked.compares && !compares(text) && !claimsOf(answer).every(isName)) return open('it does not compare')
  const decisive: Decisive[] = []
  for (const { claim: said, statement } of merged(answer)) {
    // Asked what is missing, "has been removed" affirms.
    const claim = asked.absence && !isFragment(said) ? { ...said, positive: !said.positive } : said
    const part = { claim, statement }
    const read = compareValue(claim, wanted, asked)
    if (typeof read === 'string') return open(read)
    if (read !== null) decisive.push({ ...part, right: read })
  }
  if (decisive.length === 0) return open('it does not say what was asked')
  const positive = decisive.filter(({ claim }) => claim.positive && !isContrary(claim, asked))
  const verdicts = new Set(decisive.map(({ right }) => right))
  if (verdicts.size > 1) return open(CONTRADICTION)
  // A denial of something else settles nothing by itself.
  if (positive.length === 0 && decisive.some(({ right }) => right)) return open('it only denies')
  const [correct] = verdicts
  const named = wanted.map(({ term }) => term).join(', ')
  const reason = correct ? `it says ${named}` : `the reference says ${named}`
  return { correct, decided: true, reason, ...rest, truth: wanted, decisive }
}

/** The members of a list answer together. */
function merged(answer: Reading): { claim: Claim; statement: Statement }[] {
  const parts = claimsOf(answer)
  const out: typeof parts = []
  for (const part of parts) {
    const last = out.at(-1)
    const isSame = last?.claim.positive && part.claim.positive && last.claim.kind === part.claim.kind
    const isList =
      isSame &&
      (last.claim.clause === part.claim.clause || (isFragment(last.claim) && isFragment(part.claim))) &&
      part.claim.kind !== 'echo'
    if (!isList) out.push(part)
    else {
      const claim = {
        ...last.claim,
        about: [...last.claim.about, ...part.claim.about],
        says: [...new Set([...last.claim.says, ...part.claim.says])],
      }
      out[out.length - 1] = { ...last, claim }
    }
  }
  return out
}

/** True or false for a claim that answers, null for one about something else, a reason for one that leaves it open. */
function compareValue(claim: Claim, wanted: readonly Feature[], asked: Asked): boolean | null | string {
  const named = isNameless(claim) ? claim.says : featuresOf(claim)
  if (claim.kind === 'echo') return 'it does not say what was asked'
  const fresh = newOf(named, asked)
  const groups = new Set(wanted.map(({ group }) => group))
  const frame = asked.features.filter((feature) => roleOf(feature) !== 'image')
  const isAsked = frame.length === 0 || frame.some((feature) => includes(named, [feature]))
  // "There is a nodule" answers where a finding is asked for; "there is a left kidney" says nothing of the side of a mass.
  const isFree = !frame.some((feature) => roleOf(feature) === 'finding')
  const isKindAsked =
    isFree && claim.kind === 'there' && claim.about.filter(isThing).every(({ group }) => groups.has(group))
  const answers =
    claim.about.length === 0 ||
    isAsked ||
    isKindAsked ||
    isFragment(claim) ||
    (isNameless(claim) && groups.has('finding'))
  if (!answers) return fresh.some(({ group }) => groups.has(group)) ? ELSEWHERE : null
  const isStray = ({ group }: Feature) => !groups.has(group) && frame.some((other) => other.group === group)
  const stray = fresh.find((feature) => isStray(feature) && roleOf(feature) !== 'state')
  if (stray) return `"${stray.term}" is not what was asked about`
  const own = fresh.filter(({ group }) => groups.has(group))
  const aside = speaksAside(claim, own, asked)
  if (aside) return `"${aside.term}" is not what was asked for`
  const missing = wanted.filter((feature) => !includes(closure(named), [feature]))
  const same = missing.length === 0 && includes(wanted, own)
  if (!claim.positive || isContrary(claim, asked)) {
    // "The left one is present", "a mass in the left lung was removed": neither says where the other one is.
    if (asked.absence || claim.clause.rule === 'event') return 'it says what is there, or was'
    if (same && own.length > 0) return fresh.length > own.length ? 'it denies something narrower' : false
    if (own.length > 0 && own.every((feature) => wanted.some((other) => conflicts(feature, other)))) return true
    return 'it denies something else'
  }
  const extra = fresh.find((feature) => !groups.has(feature.group) && !isHarmless(feature, asked, wanted))
  if (extra) return `the reference does not speak of "${extra.term}"`
  if (same) return true
  if (own.length === 0) return fresh.length === 0 ? null : 'it does not say what was asked'
  return contradicts(own, missing, wanted) || isOther(own, asked, wanted)
    ? false
    : 'it says it in part, or in other words'
}

/** "The abnormality is a fracture": the subject says nothing that was not asked. */
const isNameless = ({ about, kind }: Claim): boolean =>
  kind === 'is' && about.every(({ term }) => term === 'abnormality')

const isFragment = ({ clause, kind }: Claim): boolean => clause.rule === 'fragment' && kind !== 'echo'

/**
 * A value answers where the rest of its claim is what was asked: in "the lung is white" the lung is no answer to "which
 * organ is abnormal?", and "there is a left kidney" none to "which kidney is larger?".
 */
function speaksAside(claim: Claim, own: readonly Feature[], asked: Asked): Feature | undefined {
  const isMinor = (feature: Feature) => /^(?:degree|image|lasting)$/.test(roleOf(feature))
  const isNew = (feature: Feature) => !includes(asked.features, [feature]) && !isMinor(feature)
  if (claim.kind === 'is' && own.some((feature) => claim.about.includes(feature))) return claim.says.find(isNew)
  if (claim.kind !== 'there' || isFragment(claim)) return undefined
  return asked.features.find(
    (feature) => /^(?:state|rank|word|place)$/.test(roleOf(feature)) && !includes(claim.about, [feature]),
  )
}

/** "The right lung is clear", where the abnormal one is asked for, says of it what a denial says. */
function isContrary(claim: Claim, asked: Asked): boolean {
  const states = asked.features.filter((feature) => roleOf(feature) === 'state')
  return closure(featuresOf(claim)).some((feature) => states.some((other) => conflicts(feature, other)))
}

/** The other one of two that the question offers in words of its own. */
function isOther(own: readonly Feature[], { offered }: Asked, wanted: readonly Feature[]): boolean {
  const [feature, ...more] = own
  return (
    more.length === 0 &&
    feature.group === 'word' &&
    includes(offered, own) &&
    includes(offered, wanted) &&
    !includes(wanted, own)
  )
}

/** One value stands against another; of several, none may be shared. */
function contradicts(own: readonly Feature[], missing: readonly Feature[], wanted: readonly Feature[]): boolean {
  const isList = (features: readonly Feature[]) =>
    features.some((a, i) => features.some((b, j) => j > i && a.group === b.group && a.term !== b.term))
  if (isList(own) || isList(wanted)) {
    const clash = (feature: Feature) =>
      wanted.filter(({ group }) => group === feature.group).every((other) => conflicts(feature, other))
    return own.length === wanted.length && own.every(clash)
  }
  return missing.some((feature) => own.some((other) => conflicts(feature, other)))
}

/** Details that the reference need not mention: how the picture was made, how strong something is, which organ it is in. */
function isHarmless(feature: Feature, asked: Asked, wanted: readonly Feature[]): boolean {
  const role = roleOf(feature)
  if (role === 'degree' || role === 'image' || role === 'lasting') return groupNamed(feature.group)?.compatible !== true
  const placed = [...asked.features, ...wanted].some((other) => /^(?:organ|region)$/.test(roleOf(other)))
  return (role === 'organ' || role === 'region') && !placed
}
