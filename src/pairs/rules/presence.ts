/**
 * From "there is" to "there is not" and back, clause by clause: each rule of the grammar that can deny has its turn here.
 * A clause without one stays as it is. What comes out is read again before anybody believes it.
 */
import type { EditProposal } from '../edits.js'
import type { Claim } from './grammar/claims.js'
import { roleOf } from './grammar/lexemes.js'
import { isNode, type Leaf, lexemesOf, type Node, nodesOf, part } from './grammar/parser.js'
import type { Token } from './grammar/tokens.js'
import type { Lexeme } from './grammar/types.js'
import { articleOf, baseForm, isPlural, matchCase, thirdPerson } from './inflection.js'
import { groupNamed } from './lexicon.js'

/** A clause and the text it stands in. */
interface Place {
  text: string
  tokens: readonly Token[]
  /** Of two things denied together, whether the one that is not meant stays: "no effusion but a mass". */
  keepsOthers: boolean
  /** Whether a denial keeps "large" and "new", since the question asks for no more. */
  keepsDegree: boolean
}

type Edits = EditProposal[] | null

/** Edits that turn a claim into its denial or a denial into its claim; null where this cannot be said in few words. */
export function flipPresence(claim: Claim, place: Place): Edits {
  const { clause, phrase } = claim
  const without = nodesOf(clause, 'without').find((node) => phrase !== null && nodesOf(node, 'phrase').includes(phrase))
  if (without) return mayCarry(clause) ? affirmCompanion(without, place) : null
  return flips[clause.rule]?.(claim, place) ?? null
}

/** "Clear with a mass" is no English, "is seen with a mass" is. */
function mayCarry(clause: Node): boolean {
  const predicate = child(clause, 'predicate')
  return predicate === undefined || part(predicate, 'seen') !== undefined
}

const flips: Record<string, (claim: Claim, place: Place) => Edits> = {
  existence: (claim, place) => dropNot(child(claim.clause, 'isThere'), claim, place) ?? flipThing(claim, place),
  vanished: ({ clause }, place) => swapWords(part(clause, 'no'), part(clause, 'longer'), 'still', place),
  showing: flipShowing,
  seeing(claim, place) {
    const [does, neg] = [part(claim.clause, 'do') ?? part(claim.clause, 'can'), part(claim.clause, 'neg')]
    if (!does || !neg) return flipThing(claim, place)
    return part(claim.clause, 'can')
      ? [remove(neg, place)]
      : [{ ...remove(does, place), end: spanOf(neg, place).end }, ...settleAny(claim, place)]
  },
  condition: flipCondition,
  lying: flipLying,
  making: ({ clause }, place) => flipNot(part(clause, 'neg'), part(clause, 'was') ?? part(clause, 'be'), place),
  lacks: ({ clause }, place) => {
    const neg = part(child(clause, 'is') as Node, 'neg')
    return neg ? [remove(neg, place)] : null
  },
  event: flipEvent,
  cleared({ clause }, place) {
    const sign = part(clause, 'negative') ?? part(clause, 'positive')
    return sign ? [swap(sign, lexemesOf(sign)[0].text === 'negative' ? 'positive' : 'negative', place)] : null
  },
  label({ clause }, place) {
    const opposites: Record<string, string> = {
      none: 'present',
      absent: 'present',
      seen: 'absent',
      yes: 'no',
      no_: 'yes',
    }
    const value = clause.kids.find((kid): kid is Lexeme => !isNode(kid) && kid.kind in opposites)
    return value ? [swap(value, opposites[value.kind], place)] : null
  },
  short: ({ clause }, place) =>
    flipNot(part(clause, 'neg'), part(clause, 'be') ?? part(clause, 'do') ?? part(clause, 'have'), place),
  fragment(claim, place) {
    const absent = part(claim.clause, 'absent')
    if (absent) return [swap(absent, 'present', place)]
    return flipThing(claim, place)
  },
}

const child = (node: Node, rule: string): Node | undefined =>
  node.kids.find((kid): kid is Node => isNode(kid) && kid.rule === rule)

function spanOf(leaf: Leaf, { tokens }: Place): { start: number; end: number } {
  return { start: tokens[leaf.from].start, end: tokens[leaf.to - 1].end }
}

function swap(leaf: Leaf, replacement: string, place: Place): EditProposal {
  const { start, end } = spanOf(leaf, place)
  return { start, end, replacement: matchCase(place.text.slice(start, end), replacement), category: 'presence' }
}

function swapWords(first: Leaf | undefined, last: Leaf | undefined, replacement: string, place: Place): Edits {
  if (!first || !last) return null
  return [{ ...swap(first, replacement, place), end: spanOf(last, place).end }]
}

/** A negation that goes takes the space before it along; "isn't" becomes "is". */
function remove(leaf: Leaf, { text, tokens }: Place): EditProposal {
  const { start, end } = { start: tokens[leaf.from].start, end: tokens[leaf.to - 1].end }
  const space = /\s*$/.exec(text.slice(0, start))?.[0].length ?? 0
  return { start: start - space, end, replacement: '', category: 'presence' }
}

/** "is" and "is not". */
function flipNot(neg: Leaf | undefined, verb: Leaf | undefined, place: Place): Edits {
  if (neg) return [remove(neg, place)]
  if (!verb) return null
  const { start, end } = spanOf(verb, place)
  const written = place.text.slice(start, end)
  if (/\sstill$/i.test(written)) return [{ start: end - 5, end, replacement: 'no longer', category: 'presence' }]
  const seems = /^(appear|look)(s?)\b/i.exec(written)
  if (seems)
    return [
      {
        start,
        end: start + seems[0].length,
        replacement: `${seems[2] ? 'does' : 'do'} not ${seems[1]}`,
        category: 'presence',
      },
    ]
  if (/^remains?$/i.test(written)) return null
  return [{ start: end, end, replacement: ' not', category: 'presence' }]
}

/** "is not a fracture" without its "not"; "isn't any effusion" also changes the article. */
function dropNot(verb: Node | undefined, claim: Claim, place: Place): Edits {
  const neg = verb && part(verb, 'neg')
  if (!verb || !neg) return null
  return part(verb, 'do') ? null : [remove(neg, place), ...settleAny(claim, place)]
}

/** After an affirmed verb "any nodule" is "a nodule", "any nodules" are "nodules". */
function settleAny(claim: Claim, place: Place): EditProposal[] {
  const { phrase } = claim
  const any = part(listOf(claim) ?? claim.clause, 'any')
  if (any && phrase) {
    const end = place.tokens[any.to].start
    const hasTrace = part(listOf(claim) ?? claim.clause, 'trace') !== undefined
    const opening = hasTrace ? '' : articleOf(place.text.slice(end), headOf(phrase, place))
    return [{ ...swap(any, '', place), replacement: opening, end }]
  }
  const article = phrase && (part(phrase, 'art') as Lexeme | undefined)
  if (!phrase || article?.text !== 'any') return []
  const { start } = spanOf(article, place)
  const end = place.tokens[article.to].start
  return [{ start, end, replacement: articleOf(place.text.slice(end), headOf(phrase, place)), category: 'presence' }]
}

/** The noun of a phrase: its last word before "in the left lung" and the like. */
function headOf(phrase: Node, { tokens }: Place): string {
  return tokens[(phrase.kids.filter((kid) => isNode(kid) && kid.rule === 'item').at(-1) as Node).to - 1].form
}

/** The list that a claim's phrase stands in. */
function listOf({ clause, phrase }: Claim): Node | undefined {
  const lists = [...nodesOf(clause, 'list'), ...nodesOf(clause, 'noList')]
  return lists.find((list) => phrase !== null && nodesOf(list, 'phrase').includes(phrase))
}

/** "No nodule" and "a nodule". */
function flipThing(claim: Claim, place: Place): Edits {
  // "Shows a healthy lung": another state says it better than "no healthy lung".
  const hasOpposite = claim.says.some(({ group }) => groupNamed(group)?.binary)
  if (claim.kind === 'is' && claim.positive && hasOpposite) return null
  const list = listOf(claim)
  if (!list || !claim.phrase) {
    const noLack = nodesOf(claim.clause, 'noLack')[0]
    if (noLack) return [swap(part(noLack, 'no') as Leaf, 'a', place)]
    const lack = nodesOf(claim.clause, 'lacking')[0]
    return lack ? affirmLack(lack, place) : null
  }
  if (list.rule === 'noList') return affirmList(list, claim.phrase, place)
  const companion = nodesOf(claim.clause, 'companion')[0]
  const but = companion && lexemesOf(companion).find(({ text }) => text === 'but')
  const denied = denyList(list, claim.phrase, place)
  // "No edema but an effusion" becomes "no edema and no effusion".
  const previous = place.tokens[list.from - 1]
  if (denied && previous?.form === 'but') {
    return [{ start: previous.start, end: previous.end, replacement: 'and', category: 'presence' }, ...denied]
  }
  // "An effusion but no mass" becomes "no effusion and no mass"; other companions would not follow a denial.
  const refers = companion && lexemesOf(companion, 'one').length > 0
  if (companion) return denied && but && !refers ? [...denied, swap(but, 'and', place)] : null
  return denied
}

/** Of several things denied together only the one that is meant is affirmed; the others go. */
function affirmList(list: Node, phrase: Node, place: Place): Edits {
  const trace = part(list, 'trace')
  const phrases = nodesOf(list, 'phrase')
  // A place at the end of "no nodule or mass in the lungs" belongs to both.
  if (phrases.length > 1 && (phrases.length > 2 || phrases.some((one) => nodesOf(one, 'tail').length > 0))) return null
  const { start } = spanOf(list, place)
  const own = spanOf(phrase, place)
  const or = part(list, 'noMore')
  if (phrases.length === 2 && phrases[1] === phrase && or && place.keepsOthers) {
    return [swap(or, `but ${articleOf(place.text.slice(own.start), headOf(phrase, place))}`.trim(), place)]
  }
  const from = trace ? spanOf(trace, place).start : own.start
  const isFragment = place.tokens[0].start === start && list.to === place.tokens.length
  const opening = trace || isFragment ? '' : articleOf(place.text.slice(own.start), headOf(phrase, place))
  if (phrases.length === 1 && opening !== '') {
    return [{ start, end: from, replacement: matchCase(place.text.slice(start), opening), category: 'presence' }]
  }
  const kept = place.text.slice(from, own.end)
  const end = phrases.length === 1 ? own.end : spanOf(list, place).end
  return [{ start, end, replacement: matchCase(place.text.slice(start), `${opening}${kept}`), category: 'presence' }]
}

const isAnother = (phrase: Node): boolean => lexemesOf(phrase).some(({ text }) => /^(?:another|second)$/.test(text))

/** "A small effusion" becomes "no effusion": once it is denied there is nothing to measure. */
function denyList(list: Node, phrase: Node, place: Place): Edits {
  const article = part(phrase, 'art') as Lexeme | undefined
  if (nodesOf(list, 'phrase').length > 1 || /^(?:the|this|these|its|their|that|those)$/.test(article?.text ?? ''))
    return null
  const trace = part(list, 'proof') ?? part(list, 'trace')
  const items = phrase.kids.filter((kid): kid is Node => isNode(kid) && kid.rule === 'item')
  const has = (name: RegExp) => lexemesOf(phrase).some(({ feature }) => feature && name.test(feature.group))
  // "No two nodules", "no another nodule" are no English.
  if (place.keepsDegree && (has(/^(?:number|amount|ordinal)$/) || isAnother(phrase))) return null
  const measures = (item: Node) =>
    !place.keepsDegree &&
    lexemesOf(item).every(({ feature }) => feature && /^(?:degree|number|lasting)$/.test(roleOf(feature)))
  const first = items.find((item) => !measures(item))
  if (!first) return null
  const { start } = spanOf(list, place)
  const keepTrace = trace && isNode(trace) === false && trace.kind === 'trace'
  const from = trace ? spanOf(trace, place).start : spanOf(first, place).start
  const noun = place.text.slice(from, spanOf(first, place).end)
  const atFront = /^[\s"“]*$/.test(place.text.slice(0, start)) || /[.!?]\s+$/.test(place.text.slice(0, start))
  if (trace && !keepTrace) {
    // "Clear evidence of a mass" becomes "no evidence of a mass".
    const strong = /^(?:clear|definite|a clear)\s+/i.exec(place.text.slice(from))?.[0] ?? ''
    return [
      {
        start,
        end: from + strong.length,
        replacement: matchCase(place.text.slice(start), 'no '),
        category: 'presence',
      },
    ]
  }
  const opening = matchCase(place.text.slice(start), 'no ')
  if (from > start) return [{ start, end: from, replacement: opening, category: 'presence' }]
  // An abbreviation keeps its capitals, any other word loses the one it had at the front.
  const word = /^\S+/.exec(noun)?.[0] ?? ''
  const small = atFront && /^\p{Lu}\p{Ll}+/u.test(word) ? word.charAt(0).toLowerCase() + word.slice(1) : word
  return [{ start, end: start + word.length, replacement: `${opening}${small}`, category: 'presence' }]
}

/** "Without a mass" becomes "with a mass", "but no mass" becomes "and a mass". */
function affirmCompanion(without: Node, place: Place): Edits {
  const phrases = nodesOf(without, 'phrase')
  if (phrases.length !== 1) return null
  const [phrase] = phrases
  const first = without.kids.find((kid): kid is Lexeme => !isNode(kid) && kid.text !== ',') as Lexeme
  const article = part(phrase, 'art') as Lexeme | undefined
  const { start } = spanOf(first, place)
  const item = phrase.kids.find((kid) => isNode(kid) && kid.rule === 'item') as Node
  const end = part(without, 'trace')
    ? spanOf(part(without, 'trace') as Leaf, place).start
    : spanOf(article?.text === 'any' ? item : phrase, place).start
  const joint = /^with/.test(first.text) ? 'with' : 'and'
  const hasOwn = (article !== undefined && article.text !== 'any') || part(without, 'trace') !== undefined
  const opening = hasOwn ? '' : articleOf(place.text.slice(end), headOf(phrase, place))
  return [{ start, end, replacement: `${joint} ${opening}`, category: 'presence' }]
}

function affirmLack(lacking: Node, place: Place): Edits {
  const lack = part(lacking, 'lack')
  if (!lack) return null
  const { start, end } = spanOf(lack, place)
  const absence = /absence/i.exec(place.text.slice(start, end))
  if (!absence) return null
  const from = start + absence.index
  const replacement = matchCase(absence[0], 'presence')
  return [{ start: from, end: from + absence[0].length, replacement, category: 'presence' }]
}

/** "Shows a mass", "shows no mass", "does not show the mass". */
function flipShowing(claim: Claim, place: Place): Edits {
  const { clause } = claim
  const neg = part(clause, 'neg')
  const does = part(clause, 'do')
  const verb = (part(clause, 'show') ?? part(clause, 'shows')) as Lexeme
  if (neg && does) {
    const isThird = lexemesOf(does)[0].text === 'does'
    const { start } = spanOf(does, place)
    const form = isThird ? thirdPerson(verb.text) : verb.text
    return [
      { start, end: spanOf(verb, place).end, replacement: form, category: 'presence' },
      ...settleAny(claim, place),
    ]
  }
  const list = listOf(claim)
  if (does) return flipNot(undefined, does, place)
  if (!list || !claim.phrase) return null
  const article = part(claim.phrase, 'art') as Lexeme | undefined
  const isBare =
    article === undefined && !part(list, 'trace') && !isPlural(headOf(claim.phrase, place)) && list.rule === 'list'
  // "Contains the liver" and "contains liver" are denied in the verb, "contains a mass" in the noun.
  if (
    list.rule === 'noList' ||
    !(article?.text === 'the' || (isBare && claim.about.every((f) => roleOf(f) === 'organ')))
  ) {
    return flipThing(claim, place)
  }
  if (nodesOf(list, 'phrase').length > 1) return null
  const base = part(clause, 'shows') ? baseForm(verb.text) : verb.text
  return [swap(verb, `${part(clause, 'shows') ? 'does' : 'do'} not ${base}`, place)]
}

function flipCondition(claim: Claim, place: Place): Edits {
  const { clause } = claim
  const verb = child(clause, 'is') as Node
  const predicate = child(clause, 'predicate') as Node
  const absent = part(predicate, 'absent')
  const confirmed = part(predicate, 'confirmed')
  if (part(verb, 'do')) return affirmSeeming(verb, place)
  if (part(verb, 'neg')) return [remove(part(verb, 'neg') as Leaf, place)]
  if (absent) return [swap(absent, 'present', place)]
  if (confirmed) return [swap(confirmed, 'excluded', place)]
  if (part(predicate, 'seen') && claim.phrase) {
    const article = part(claim.phrase, 'art') as Lexeme | undefined
    const list = listOf(claim)
    const isIndefinite = part(claim.phrase, 'some') !== undefined || /^(?:an?|some|any)$/.test(article?.text ?? '')
    if (list && (list.rule === 'noList' || isIndefinite)) return flipThing(claim, place)
  }
  // "Is normal and round": it would be open which of the two is denied.
  if (nodesOf(predicate, 'phrase').length > 1 && nodesOf(predicate, 'tail').length === 0) return null
  // "Is mildly enlarged" is denied as "is not enlarged": "not mildly" would leave it open.
  const degree = place.keepsDegree ? null : predicateDegree(predicate)
  if (degree) return [{ ...swap(degree, 'not', place), category: 'presence' }]
  return flipNot(undefined, part(verb, 'be'), place)
}

/** "Does not appear" becomes "appears". */
function affirmSeeming(verb: Node, place: Place): Edits {
  const [does, seem] = [part(verb, 'do') as Lexeme, part(verb, 'seem') as Lexeme]
  const [first, ...rest] = seem.text.split(' ')
  const form = [does.text === 'does' ? thirdPerson(first) : first, ...rest].join(' ')
  return [{ ...swap(does, form, place), end: spanOf(seem, place).end }]
}

function predicateDegree(predicate: Node): Node | null {
  const phrase = part(predicate, 'phrase')
  const items =
    phrase && isNode(phrase) && !part(phrase, 'art') ? phrase.kids.filter((kid): kid is Node => isNode(kid)) : []
  const [first, second] = items
  const isDegree =
    first && second?.rule === 'item' && lexemesOf(first).every(({ feature }) => feature && roleOf(feature) === 'degree')
  return isDegree ? first : null
}

function flipEvent({ clause }: Claim, place: Place): Edits {
  const neg = part(clause, 'neg')
  if (neg) return [remove(neg, place)]
  const excluded = part(clause, 'excluded')
  if (excluded) return [swap(excluded, 'confirmed', place)]
  const confirmed = part(clause, 'confirmed')
  if (confirmed) return [swap(confirmed, 'excluded', place)]
  if (part(clause, 'longer')) return swapWords(part(clause, 'no'), part(clause, 'longer'), 'still', place)
  const persist = part(clause, 'persist')
  if (persist)
    return [swap(persist, lexemesOf(persist)[0].text === 'persists' ? 'has resolved' : 'have resolved', place)]
  const can = part(clause, 'can')
  if (can) return [swap(can, 'cannot', place)]
  const have = part(clause, 'have')
  if (have) return flipNot(undefined, have, place)
  const gone = part(clause, 'gone')
  return gone && lexemesOf(gone)[0].text === 'gone' ? [swap(gone, 'still present', place)] : null
}

/** "Lies on the left", "does not lie on the left". */
function flipLying({ clause }: Claim, place: Place): Edits {
  const [does, verb] = [part(clause, 'do'), part(clause, 'lie') as Lexeme | undefined]
  if (!verb || child(clause, 'opposed')) return null
  if (!does) {
    const base = baseForm(verb.text)
    return [swap(verb, `${base === verb.text ? 'do' : 'does'} not ${base}`, place)]
  }
  const isThird = lexemesOf(does)[0].text === 'does'
  return [{ ...swap(does, isThird ? thirdPerson(verb.text) : verb.text, place), end: spanOf(verb, place).end }]
}
