/** What a parsed clause claims: of which thing, what, and whether it affirms or denies it. */
import { groupNamed } from '../lexicon.js'
import { roleOf } from './lexemes.js'
import { isNode, type Leaf, lexemesOf, type Node, nodesOf, part } from './parser.js'
import type { Feature, Lexeme } from './types.js'

export interface Claim {
  /** `there`: something exists. `is`: something has a property. `echo`: "it is", which repeats what was asked. */
  kind: 'there' | 'is' | 'echo'
  /** The thing that exists, or that has the property, with all that narrows it down. */
  about: Feature[]
  /** The property; empty for `there`. */
  says: Feature[]
  positive: boolean
  /** One known thing ("the mass", "it"), which can be in one place only. */
  definite: boolean
  /** "It": the thing that was asked about. */
  pronoun: boolean
  /** The thing is named with its article: it is there, whatever is said of it. */
  known: boolean
  /** The property is a place and nothing else. */
  located: boolean
  /** The clause and the phrase whose words an edit changes. */
  clause: Node
  phrase: Node | null
}

/** Why a clause that fits the grammar is still not understood. */
export class Unclear extends Error {}

export function claimsOf(clause: Node): Claim[] {
  const body = clause.kids[0] as Node
  const make = makers[body.rule]
  const predicate = child(body, 'predicate')
  const located =
    body.rule === 'lying' || (predicate ? part(predicate, 'phrase') === undefined : body.rule === 'fragment')
  return make(body).map((claim) => normalize({ ...claim, clause: body, located, known: isKnown(claim) }))
}

type Draft = Omit<Claim, 'clause' | 'known' | 'located'>
type Maker = (clause: Node) => Draft[]

const has = (node: Node, name: string): boolean => part(node, name) !== undefined
const child = (node: Node, rule: string): Node | undefined =>
  node.kids.find((kid): kid is Node => isNode(kid) && kid.rule === rule)

/** Phrases directly in a list, not those inside another phrase. */
const phrasesOf = (node: Node): Node[] => nodesOf(node, 'phrase')

/** What a part names; where the picture shows it ("in the CT scan of the chest") narrows nothing down. */
function featuresOf(leaf: Leaf): Feature[] {
  if (!isNode(leaf)) return leaf.feature ? [leaf.feature] : []
  const named = leaf.kids.some((kid) => !isPictureTail(kid) && lexemesOf(kid).some(({ feature }) => feature))
  return leaf.kids.flatMap((kid) => (named && isPictureTail(kid) ? [] : featuresOf(kid)))
}

const isPictureTail = (leaf: Leaf): boolean =>
  isNode(leaf) &&
  leaf.rule === 'tail' &&
  /^(?:in|on)$/.test(lexemesOf(leaf)[0].text) &&
  nodesOf(leaf, 'phrase')[0]?.kids.some((kid) =>
    lexemesOf(kid).some(({ kind, feature }) => kind === 'picture' || feature?.group === 'modality'),
  ) === true

/** "On ultrasound" speaks of a technique, "on this ultrasound" of a picture. */
const isTechnique = (tail: Node): boolean =>
  isPictureTail(tail) &&
  nodesOf(tail, 'phrase').some((phrase) => !isDefinite(phrase) && lexemesOf(phrase, 'picture').length === 0)

const tailsOf = (node: Node): Node[] => node.kids.filter((kid): kid is Node => isNode(kid) && kid.rule === 'tail')

/** What the tails of a clause add to its thing. */
const placesOf = (clause: Node): Feature[] =>
  tailsOf(clause).flatMap((tail) => (isPictureTail(tail) ? [] : featuresOf(tail)))

function there(phrase: Node, positive: boolean, more: Feature[] = []): Draft {
  checkHead(phrase)
  checkTails(phrase)
  const about = [...featuresOf(phrase), ...more]
  return { kind: 'there', about, says: [], positive, definite: isDefinite(phrase), pronoun: false, phrase }
}

/** "An effusion pneumothorax" is no phrase; "a mass lesion" is. */
function checkHead(phrase: Node): void {
  const items = phrase.kids.filter((kid) => isNode(kid) && kid.rule === 'item').flatMap((item) => lexemesOf(item))
  const findings = items.flatMap(({ feature }) => (feature && roleOf(feature) === 'finding' ? [feature] : []))
  const strangers = findings.find(
    ({ term }) => term !== findings[0].term && !groupNamed('finding')?.isNear(findings[0].term, term),
  )
  if (strangers) throw new Unclear(`"${findings[0].term}" and "${strangers.term}" in one phrase`)
}

/**
 * What a tail names is there only where it is what the phrase is of ("an area of consolidation") or with: "clear of
 * effusion" and "opacity in pneumonia" do not say that there is one.
 */
function checkTails(node: Node): void {
  const items = node.kids.filter((kid) => !(isNode(kid) && kid.rule === 'tail'))
  const isPlain = !items.some((item) =>
    lexemesOf(item).some(({ feature }) => feature && /^(?:finding|organ|state)$/.test(roleOf(feature))),
  )
  for (const tail of node.kids) {
    if (!isNode(tail) || tail.rule !== 'tail') continue
    const prep = lexemesOf(tail)[0].text
    const features = featuresOf(tail)
    const finding = features.find((feature) => roleOf(feature) === 'finding')
    if (finding && prep !== 'with' && !(prep === 'of' && isPlain))
      throw new Unclear(`it is open whether there is "${finding.term}"`)
    const isSided = items.some((item) => lexemesOf(item).some(({ feature }) => feature?.group === 'side'))
    if (prep === 'of' && isSided && lexemesOf(tail, 'picture').length > 0)
      throw new Unclear('the side of a picture is not that of a patient')
    for (const phrase of nodesOf(tail, 'phrase')) checkTails(phrase)
  }
}

/** "The mass"; of "the side of the mass" the side is known. */
function isKnown({ phrase }: Draft): boolean {
  const hasTail =
    phrase !== null &&
    nodesOf(phrase, 'tail').some((tail) => featuresOf(tail).some((feature) => roleOf(feature) === 'finding'))
  return phrase !== null && isDefinite(phrase) && !hasTail
}

const DEFINITE = /^(?:the|this|these|its|their|that|those)$/
function isDefinite(phrase: Node): boolean {
  const article = part(phrase, 'art') as Lexeme | undefined
  return article !== undefined && DEFINITE.test(article.text)
}

/** The things of a list with the polarity that their own words give them. */
function thingsOf(node: Node): { phrase: Node; positive: boolean }[] {
  const things = node.rule === 'things' ? (node.kids[0] as Node) : node
  // "No the heart is large" is a "no" without its comma.
  const bare = things.rule === 'noList' && !has(things, 'trace') && phrasesOf(things)[0]
  if (bare && has(bare, 'art')) throw new Unclear('"no" before an article')
  return phrasesOf(things).map((phrase) => ({ phrase, positive: things.rule === 'list' || things.rule === 'noLack' }))
}

/** Denial in the verb over the denial in the noun: two make an affirmation ("is not without", "no lack of"). */
function existences(node: Node, denied: boolean, more: Feature[] = []): Draft[] {
  const things = thingsOf(node)
  if (denied && node.rule === 'things' && (node.kids[0] as Node).rule === 'noList')
    throw new Unclear('"not" before "no"')
  // "does not show an effusion and a mass": it is open which of them is denied.
  if (denied && things.length > 1) throw new Unclear('several things are denied together')
  return things.map(({ phrase, positive }) => there(phrase, positive !== denied, more))
}

function companions(clause: Node): Draft[] {
  return clause.kids.flatMap((kid) => {
    if (!isNode(kid)) return []
    if (kid.rule === 'companion') return companions(kid)
    if (kid.rule === 'without') return phrasesOf(kid).map((phrase) => there(phrase, false))
    if (kid.rule === 'opposed') {
      if (has(kid, 'tail')) throw new Unclear('a place is denied')
      return phrasesOf(kid).map((phrase) => there(phrase, false))
    }
    return []
  })
}

const isDenied = (node: Node | undefined): boolean => node !== undefined && has(node, 'neg')

/** The subject of a property: a phrase, or the thing that was asked about. */
function propertyOf(subject: Node, says: Feature[], positive: boolean): Draft[] {
  if (has(subject, 'pronoun')) {
    return [{ kind: 'is', about: [], says, positive, definite: true, pronoun: true, phrase: null }]
  }
  const things = thingsOf(part(subject, 'things') as Node)
  for (const { phrase } of things) checkHead(phrase)
  // "The heart and the aorta are not wide": it is open which of them is denied.
  if (things.length > 1 && (!positive || things.some((thing) => !thing.positive))) {
    throw new Unclear('several things are denied together')
  }
  return things.map(({ phrase, positive: affirmed }) => ({
    ...{ kind: 'is' as const, about: featuresOf(phrase), says, positive: positive === affirmed },
    ...{ definite: !isIndefinite(phrase) && affirmed, pronoun: false, phrase },
  }))
}

const isIndefinite = (phrase: Node): boolean => {
  const article = part(phrase, 'art') as Lexeme | undefined
  return has(phrase, 'some') || (article !== undefined && !DEFINITE.test(article.text))
}

/** The subject exists, or does not, at the places of the tails. */
function presence(subject: Node, present: boolean, tails: Feature[]): Draft[] {
  if (!has(subject, 'pronoun')) {
    return existences(part(subject, 'things') as Node, !present, tails)
  }
  const kind = tails.length > 0 ? 'is' : 'echo'
  return [{ kind, about: [], says: tails, positive: present, definite: true, pronoun: true, phrase: null }]
}

/** "No effusion has resolved", "no fracture is excluded": a denied subject is understood where something is merely seen. */
function checkSubject(subject: Node): void {
  const things = part(subject, 'things')
  if (things && isNode(things) && (things.kids[0] as Node).rule !== 'list') throw new Unclear('the subject is denied')
}

const makers: Record<string, Maker> = {
  existence(clause) {
    const verb = child(clause, 'isThere')
    checkTails(clause)
    const tails = placesOf(clause)
    return [...existences(child(clause, 'things') as Node, isDenied(verb), tails), ...companions(clause)]
  },
  vanished: (clause) => existences(child(clause, 'list') as Node, true, placesOf(clause)),
  both: (clause) => phrasesOf(clause).map((phrase) => there(phrase, true)),
  unchanged(clause) {
    const nested = child(clause, 'condition')
    if (nested) return makers.condition(nested)
    const list = child(clause, 'list')
    if (list) return existences(list, false)
    return presence(child(clause, 'subject') as Node, true, [])
  },
  seeing: (clause) => existences(child(clause, 'things') as Node, has(clause, 'neg'), placesOf(clause)),
  showing(clause) {
    const subject = child(clause, 'subject') as Node
    const where = has(subject, 'pronoun') ? [] : placeOfSubject(part(subject, 'things') as Node)
    const things = child(clause, 'things') as Node
    return [...existences(things, has(clause, 'neg'), where), ...companions(clause)]
  },
  condition(clause) {
    const subject = child(clause, 'subject') as Node
    const denied = isDenied(child(clause, 'is'))
    const predicate = child(clause, 'predicate') as Node
    const says = featuresOf(predicate)
    const opposed = child(clause, 'opposed')
    checkTails(predicate)
    for (const phrase of nodesOf(predicate, 'phrase')) checkTails(phrase)
    if (has(predicate, 'absent') || has(predicate, 'confirmed')) checkSubject(subject)
    if (denied && has(predicate, 'confirmed')) throw new Unclear('what is not confirmed is open')
    const claims =
      has(predicate, 'seen') || has(predicate, 'confirmed')
        ? presence(subject, !denied, says)
        : has(predicate, 'absent')
          ? presence(subject, denied, says)
          : propertyOf(subject, says, !denied)
    if (opposed) claims.push(...propertyOf(subject, featuresOf(opposed), denied))
    return [
      ...claims,
      ...nodesOf(clause, 'without').flatMap((node) => phrasesOf(node).map((phrase) => there(phrase, false))),
    ]
  },
  making(clause) {
    const says = [...tailsOf(clause), ...nodesOf(clause, 'means')].flatMap(featuresOf)
    const subject = child(clause, 'subject') as Node
    if (says.some((feature) => roleOf(feature) === 'finding')) throw new Unclear('a picture is made for a finding')
    return says.length > 0 ? propertyOf(subject, says, !has(clause, 'neg')) : presence(subject, !has(clause, 'neg'), [])
  },
  lying(clause) {
    const phrase = child(clause, 'phrase')
    const says = phrase ? featuresOf(phrase) : tailsOf(clause).flatMap(featuresOf)
    const subject = child(clause, 'subject') as Node
    const denied = has(clause, 'neg')
    const opposed = child(clause, 'opposed')
    return [...propertyOf(subject, says, !denied), ...(opposed ? propertyOf(subject, featuresOf(opposed), denied) : [])]
  },
  measuring: (clause) =>
    propertyOf(child(clause, 'subject') as Node, featuresOf(child(clause, 'phrase') as Node), true),
  event(clause) {
    const subject = child(clause, 'subject') as Node
    const tails = placesOf(clause)
    const denied = has(clause, 'neg') || isDenied(child(clause, 'isNow'))
    if (!has(clause, 'seen')) checkSubject(subject)
    checkTails(clause)
    if (has(clause, 'can') && tailsOf(clause).some(isTechnique)) throw new Unclear('what can be seen in general')
    if (has(clause, 'excluded') || has(clause, 'confirmed')) {
      if (denied) throw new Unclear('what is not excluded or not confirmed is open')
      return presence(subject, has(clause, 'confirmed'), tails)
    }
    if (has(clause, 'gone') || has(clause, 'removed')) return presence(subject, denied, tails)
    if (has(clause, 'longer')) return presence(subject, false, tails)
    if (has(clause, 'persist')) return presence(subject, true, tails)
    return presence(subject, !denied, tails)
  },
  lacks(clause) {
    const where = placeOfSubject(part(child(clause, 'subject') as Node, 'things') as Node)
    return [there(child(clause, 'phrase') as Node, isDenied(child(clause, 'is')), where)]
  },
  cleared(clause) {
    const subject = child(clause, 'subject') as Node
    const where = has(subject, 'pronoun') ? [] : placeOfSubject(part(subject, 'things') as Node)
    const affirmed = has(clause, 'positive')
    if (isDenied(child(clause, 'is'))) throw new Unclear('a negation of "free of" or "negative for"')
    const own = clause.kids.filter((kid): kid is Node => isNode(kid) && kid.rule === 'phrase')
    return own.map((phrase) => there(phrase, affirmed, where))
  },
  label(clause) {
    const [name, value] = clause.kids.filter((kid): kid is Node => isNode(kid) && kid.rule === 'phrase')
    if (value) {
      return [
        {
          kind: 'is',
          about: featuresOf(name),
          says: featuresOf(value),
          positive: true,
          definite: true,
          pronoun: false,
          phrase: value,
        },
      ]
    }
    return [there(name, has(clause, 'seen') || has(clause, 'yes'))]
  },
  short: (clause) => [
    { kind: 'echo', about: [], says: [], positive: !has(clause, 'neg'), definite: true, pronoun: true, phrase: null },
  ],
  fragment(clause) {
    const things = child(clause, 'things')
    checkTails(clause)
    const tails = things ? placesOf(clause) : tailsOf(clause).flatMap(featuresOf)
    if (!things) {
      const denied = has(clause, 'none') || has(clause, 'absent')
      if (has(clause, 'persist')) return existences(child(clause, 'list') as Node, false)
      const kind = denied ? 'echo' : 'is'
      const bare: Draft = {
        kind,
        about: [],
        says: tails,
        positive: !denied,
        definite: true,
        pronoun: true,
        phrase: null,
      }
      return [bare, ...opposedTo(clause)]
    }
    return [...existences(things, has(clause, 'absent'), tails), ...companions(clause)]
  },
}

function opposedTo(clause: Node): Draft[] {
  const opposed = child(clause, 'opposed')
  if (!opposed) return []
  return [
    { kind: 'is', about: [], says: featuresOf(opposed), positive: false, definite: true, pronoun: true, phrase: null },
  ]
}

/** "The liver contains a cyst": the liver is where. "The CT of the abdomen shows a cyst": the picture is nowhere. */
function placeOfSubject(things: Node): Feature[] {
  const features = featuresOf(things)
  const isPicture = features.some((feature) => roleOf(feature) === 'image') || lexemesOf(things, 'picture').length > 0
  if (phrasesOf(things).length !== 1 || things.kids.some((kid) => isNode(kid) && kid.rule !== 'list')) {
    throw new Unclear('it is open where')
  }
  return isPicture ? [] : features
}

/** The same facts in one form: "cardiomegaly" and "an enlarged heart" are a heart that is enlarged. */
function normalize(claim: Claim): Claim {
  for (const features of [claim.about, claim.says]) checkOneOfEach(features)
  const isZero = ({ group, term }: Feature) => group === 'number' && term === '0'
  if (claim.about.length > 1 && claim.about.some(isZero)) throw new Unclear('a count of zero denies')
  const spell = (features: Feature[]) => features.flatMap(meaningOf)
  let about = spell(claim.about)
  let says = spell(claim.says)
  let kind = claim.kind
  // A property given in the noun phrase ("clear lungs", "cardiomegaly") is one all the same.
  const isProperty = (feature: Feature) => roleOf(feature) === 'state'
  const hasFinding = about.some((feature) => roleOf(feature) === 'finding')
  const hasOrgan = about.some((feature) => roleOf(feature) === 'organ')
  if (kind === 'there' && !hasFinding && hasOrgan && about.some(isProperty)) {
    kind = 'is'
    says = [...about.filter((feature) => isProperty(feature) || roleOf(feature) === 'degree')]
    about = about.filter((feature) => !says.includes(feature))
  }
  // "An unchanged effusion", "the effusion is stable": it is there, and it was there before.
  const lasting = (feature: Feature) => roleOf(feature) === 'lasting'
  if (claim.positive && says.length > 0 && says.every(lasting)) {
    kind = claim.pronoun ? 'echo' : 'there'
    says = []
  }
  if (claim.positive) {
    about = about.filter((feature) => !lasting(feature))
    says = says.filter((feature) => !lasting(feature))
  }
  return { ...claim, kind, about, says }
}

function meaningOf(feature: Feature): Feature[] {
  const meaning = groupNamed(feature.group)?.means.get(feature.term)
  if (!meaning) return [feature]
  return meaning.map((name) => ({
    ...feature,
    group: name.split(' ')[0],
    term: name.slice(name.indexOf(' ') + 1),
    slot: 0,
  }))
}

/** "Left" and "right" in one phrase cannot be told apart by their names. */
function checkOneOfEach(features: readonly Feature[]): void {
  const seen = new Map<string, string>()
  for (const feature of features) {
    if (!['place', 'degree', 'state', 'image', 'number', 'measure', 'ordinal', 'level'].includes(roleOf(feature)))
      continue
    const other = seen.get(feature.group)
    if (other !== undefined && other !== feature.term && !groupNamed(feature.group)?.compatible) {
      throw new Unclear(`"${other}" and "${feature.term}" in one phrase`)
    }
    seen.set(feature.group, feature.term)
  }
}
