/**
 * How one claim stands to another, by what each names. A claim that says more entails one that says less; a denial of less
 * entails the denial of more. Two values of one property exclude each other unless the lexicon says that they overlap.
 */
import type { Claim } from './grammar/claims.js'
import { roleOf } from './grammar/lexemes.js'
import type { Feature } from './grammar/types.js'
import { groupNamed } from './lexicon.js'

export type Relation = 'same' | 'opposite' | 'open'

export const keyOf = ({ group, term }: Feature): string => `${group} ${term}`
export const keysOf = (features: readonly Feature[]): Set<string> => new Set(features.map(keyOf))

/** With what the terms say besides: what is enlarged is abnormal. */
export function closure(features: readonly Feature[]): Feature[] {
  return features.flatMap((feature) => [
    feature,
    ...(groupNamed(feature.group)?.implies.get(feature.term) ?? []).map((name) => ({
      ...feature,
      group: name.split(' ')[0],
      term: name.slice(name.indexOf(' ') + 1),
    })),
  ])
}

export const includes = (all: readonly Feature[], some: readonly Feature[]): boolean => {
  const keys = keysOf(all)
  return some.every((feature) => keys.has(keyOf(feature)))
}

/** Values that exclude each other: the same group, other terms, none of them near the other. */
export function conflicts(a: Feature, b: Feature): boolean {
  if (a.group !== b.group || a.term === b.term) return false
  const group = groupNamed(a.group)
  // One diameter neither agrees with two nor contradicts them.
  if (a.group === 'measure') return a.term.split(' x ').length === b.term.split(' x ').length
  if (!group) return a.group !== 'word'
  return !group.isNear(a.term, b.term)
}

/** As `conflicts`, for groups whose terms may not hold at once. */
const excludes = (a: Feature, b: Feature): boolean => conflicts(a, b) && groupNamed(a.group)?.compatible !== true

/** Whether a claim affirms or denies a proposition (in its positive form); `open` when it does neither. */
export function settles(claim: Claim, proposition: Claim): Relation {
  // "None" denies a thing, not a property.
  const isNone = claim.clause.rule === 'fragment' && proposition.kind === 'is'
  if (claim.kind === 'echo') return isNone ? 'open' : claim.positive ? 'same' : 'opposite'
  // "It is normal", where a fracture was asked about, speaks of the picture.
  const about = claim.pronoun && proposition.kind === 'is' ? proposition.about : claim.about
  if (!samePlaces(claim, about, proposition)) return 'open'
  const own = closure([...about, ...claim.says])
  const asked = [...proposition.about, ...proposition.says]
  if (!asked.some(isThing) && proposition.says.length === 0) return 'open'
  if (claim.positive) {
    // "Masses are white" does not say that there is one here.
    const isThere = claim.kind === 'there' || claim.known || claim.located || claim.pronoun || proposition.kind === 'is'
    if (includes(own, asked)) return isThere ? 'same' : 'open'
    return claim.definite || proposition.kind === 'is' ? opposed(claim, about, proposition) : 'open'
  }
  const turned = turnAround(claim)
  if (turned && settles(turned, proposition) !== 'open') return settles(turned, proposition)
  // "The liver is not seen" does not deny a mass in it.
  const isFinding = (feature: Feature) => roleOf(feature) === 'finding'
  if (proposition.about.some(isFinding) && !about.some(isFinding)) return 'open'
  const isWhole =
    claim.kind === proposition.kind && (claim.kind === 'there' ? about.some(isThing) : claim.says.length > 0)
  return isWhole && includes(asked, [...about, ...claim.says]) && sameThing(about, proposition.about)
    ? 'opposite'
    : 'open'
}

/** A part speaks for itself only: what holds of the left lung need not hold of the lungs, nor the other way round. */
function samePlaces(claim: Claim, about: readonly Feature[], proposition: Claim): boolean {
  const hasFinding = [...about, ...proposition.about].some((feature) => roleOf(feature) === 'finding')
  const places = (features: readonly Feature[]) =>
    features.filter((feature) => roleOf(feature) === 'place' && feature.term !== 'both')
  const [own, asked] = [places(about), places(proposition.about)]
  if (hasFinding || claim.pronoun || (claim.kind === 'there' && claim.says.length > 0)) return true
  return includes(own, asked) && includes(asked, own)
}

export const isThing = (feature: Feature): boolean => /^(?:finding|organ|region|word|level)$/.test(roleOf(feature))

/** The same things are meant when the one names every thing of the other; places may narrow them down. */
function sameThing(a: readonly Feature[], b: readonly Feature[]): boolean {
  const [things, others] = [a.filter(isThing), b.filter(isThing)]
  return includes(things, others) || includes(others, things)
}

/** The claim gives the thing that was asked about another value of the property. */
function opposed(claim: Claim, about: readonly Feature[], proposition: Claim): Relation {
  const asked =
    proposition.says.length > 0 ? proposition.says : proposition.about.filter((feature) => !isThing(feature))
  const rest = proposition.says.length > 0 ? proposition.about : proposition.about.filter(isThing)
  if (!includes(closure([...about, ...claim.says]), rest)) return 'open'
  // Of the picture itself something is asked, and the claim is about a thing in it.
  if (proposition.about.length === 0 && about.length > 0) return 'open'
  if (rest.length === 0 && about.some(isThing) && proposition.says.length === 0) return 'open'
  const told = closure(claim.says.length > 0 ? claim.says : about)
  return asked.some((value) => told.some((other) => excludes(value, other))) ? 'opposite' : 'open'
}

/** "Not normal" is abnormal, where there is no third. */
function turnAround(claim: Claim): Claim | null {
  const [feature, ...more] = claim.says
  const group = feature && groupNamed(feature.group)
  if (more.length > 0 || !group?.binary) return null
  const [other] = [...group.terms.keys()].filter((term) => term !== feature.term)
  return { ...claim, positive: true, says: [{ ...feature, term: other }] }
}
