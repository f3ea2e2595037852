/** What follows from a reference that says no more than yes or no. */
import { conflicts, includes, settles } from './compare.js'
import type { Claim } from './grammar/claims.js'
import { roleOf } from './grammar/lexemes.js'
import type { Feature } from './grammar/types.js'
import { groupNamed } from './lexicon.js'

/** "Not both" and "not all" leave it open which one: no denial in few words says that. */
const TOTAL = /^(?:both|all|every|each|whole|entire)$/

/**
 * Whether a claim that answers a yes/no question says no more than its reference. A "no" to a large effusion leaves a small
 * one open, and a "no" to the left side does not mean the right one.
 */
export function followsFrom(claim: Claim, proposition: Claim, reference: readonly Claim[]): boolean {
  const relation = settles(claim, proposition)
  if (relation !== 'opposite' || claim.kind === 'echo') return true
  const affirmed = { ...claim, positive: true }
  const isSaid = reference.some(
    (fact) => fact.kind !== 'echo' && settles(fact, affirmed) === (claim.positive ? 'same' : 'opposite'),
  )
  if (isSaid) return true
  const asked = [...proposition.about, ...proposition.says]
  if (asked.some(({ term }) => TOTAL.test(term))) return false
  const about = claim.pronoun ? proposition.about : claim.about
  if (!claim.positive) return includes([...about, ...claim.says], asked)
  const [state, ...more] = claim.says
  return more.length === 0 && state !== undefined && groupNamed(state.group)?.binary === true
}

/** How much, how many, since when: what a "no" may deny without denying the thing. */
export const isQualifier = (feature: Feature): boolean =>
  /^(?:degree|lasting|number|measure|ordinal|rank)$/.test(roleOf(feature))

/** "Severe", where the reference says no more than "no" to "mild": nobody knows whether there is any. */
export function isGuess(claim: Claim, proposition: Claim, reference: readonly Claim[]): boolean {
  const clash = [...claim.about, ...claim.says].some((own) =>
    [...proposition.about, ...proposition.says].some((other) => isQualifier(other) && conflicts(own, other)),
  )
  return claim.positive && clash && !followsFrom(claim, proposition, reference)
}
