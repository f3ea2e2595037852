/**
 * The fewest words that make a wrong text right or a right one wrong. An edit changes one thing that a claim says; then the
 * text is read again by the same grammar, and only what comes out with the opposite verdict is proposed.
 */
import { choose } from '../choice.js'
import { applyEdits, EditError, type EditProposal } from '../edits.js'
import type { Goal, Unit } from '../provider.js'
import { conflicts, includes, keyOf, keysOf } from './compare.js'
import { isQualifier } from './entail.js'
import { roleOf } from './grammar/lexemes.js'
import { nodesOf } from './grammar/parser.js'
import type { Feature } from './grammar/types.js'
import { type Decisive, isEntailed, type Judged, judgeAnswer } from './judge.js'
import { groupNamed } from './lexicon.js'
import { flipPresence } from './presence.js'
import { replaceAmount, replaceFeature } from './replace.js'
import { type Checked, readReportSentence } from './report.js'

/** Edits for an answer or a sentence of a report; null when the rules know none. */
export function proposeEdits(unit: Unit, goal: Goal): EditProposal[] | null {
  return unit.task === 'report' ? editSentence(unit, goal) : editAnswer(unit, goal)
}

/** The first proposal that turns the verdict around. */
function firstSound(unit: Unit, goal: Goal, options: readonly (EditProposal[] | null)[]): EditProposal[] | null {
  return options.find((edits): edits is EditProposal[] => edits !== null && isSound(unit, goal, edits)) ?? null
}

/** The edited text, read again, is right after a repair and wrong after a falsification. */
function isSound(unit: Unit, goal: Goal, edits: readonly EditProposal[]): boolean {
  const text = applied(unit.text, edits)
  if (text === null) return false
  const read = unit.task === 'report' ? readReportSentence({ ...unit, text }) : judgeAnswer({ ...unit, text })
  if (!read.decided || read.correct !== (goal === 'repair')) return false
  return goal === 'counterfactual' || !('decisive' in read) || isEntailed(read)
}

function applied(text: string, edits: readonly EditProposal[]): string | null {
  try {
    return applyEdits(text, edits).text
  } catch (error) {
    if (error instanceof EditError) return null
    throw error
  }
}

function editAnswer(unit: Unit, goal: Goal): EditProposal[] | null {
  const judged = judgeAnswer(unit)
  if (!judged.decided || judged.correct !== (goal === 'counterfactual')) return null
  if (judged.asked.kind === 'value') return editValue(unit, goal, judged)
  const leads = judged.leads.map(({ said, start, end }): EditProposal => {
    const other = said === 'yes' ? 'no' : 'yes'
    return { start, end, replacement: sameCase(unit.text.slice(start, end), other), category: 'presence' }
  })
  // Each way of turning the claims around, together with the word that announces them.
  const ways = [flipOf, swapOf].map((way) => joinAll(judged.decisive.map((part) => way(unit.text, part, judged))))
  const ordered = choose([true, false], unit.id, 'way') ? ways : [...ways].reverse()
  // What says another value than the one asked for takes that value, rather than being denied.
  const other = judged.decisive.some(
    ({ claim }) => claim.positive && !includes([...claim.about, ...claim.says], judged.asked.proposition?.says ?? []),
  )
  const sure = other ? [...ways].reverse() : prefersFlip(judged) ? ways : ordered
  const options = judged.decisive.length === 0 ? [[]] : sure
  return firstSound(
    unit,
    goal,
    options.map((edits) => edits && [...leads, ...edits]),
  )
}

/** Of two sides the other one is as good as a denial; any other value would be one of many. */
const prefersFlip = ({ asked }: Judged): boolean => !asked.proposition?.says.some(({ group }) => group === 'side')

function sameCase(original: string, word: string): string {
  if (original === original.toUpperCase() && original.length > 1) return word.toUpperCase()
  return /^\p{Lu}/u.test(original) ? word[0].toUpperCase() + word.slice(1) : word
}

function joinAll(parts: readonly (EditProposal[] | null)[]): EditProposal[] | null {
  return parts.some((edits) => edits === null) ? null : parts.flatMap((edits) => edits ?? [])
}

const flipOf = (
  text: string,
  { claim, statement }: Decisive,
  { asked: { proposition } }: Judged,
): EditProposal[] | null =>
  flipPresence(claim, {
    ...{ text, tokens: statement.tokens, keepsOthers: true },
    keepsDegree: [...(proposition?.about ?? []), ...(proposition?.says ?? [])].some(isQualifier),
  })

/** Another value of the property that was asked for: "right" for "left", "enlarged" for "normal". */
function swapOf(text: string, { claim }: Decisive, { asked }: Judged): EditProposal[] | null {
  const wanted = asked.proposition?.says ?? []
  const own = claim.says.filter((feature) => wanted.some((other) => other.group === feature.group))
  // "Shifted to the right" has a place that "midline" would not bear.
  const isState = own.some((feature) => roleOf(feature) === 'state')
  if (isState && (claim.says.length > own.length || nodesOf(claim.clause, 'tail').length > 0)) return null
  const other = own.filter((feature) => !includes(wanted, [feature]))
  if (other.length > 0) {
    return joinAll(
      other.map((feature) =>
        replaceFeature(text, feature, wanted.find(({ group }) => group === feature.group)?.term ?? ''),
      ),
    )
  }
  const [feature] = own
  const term = feature && groupNamed(feature.group)?.partners(feature.term)[0]
  return term === undefined ? null : replaceFeature(text, feature, term)
}

/** Sides and places make the plausible errors; another organ is taken only where there is nothing nearer. */
const FAR = /^(?:organ|region|finding)$/

function editValue(unit: Unit, goal: Goal, judged: Judged): EditProposal[] | null {
  if (judged.decisive.every(({ claim }) => !claim.positive)) {
    return firstSound(unit, goal, [joinAll(judged.decisive.map((part) => flipOf(unit.text, part, judged)))])
  }
  const features = judged.decisive.flatMap(({ claim }) => [...claim.about, ...claim.says])
  if (goal === 'repair') return firstSound(unit, goal, [correctValues(unit.text, judged)])
  const wanted = keysOf(judged.truth)
  const own = features.filter((feature) => wanted.has(keyOf(feature)))
  const near = own.filter((feature) => !FAR.test(roleOf(feature)))
  const pool = near.length > 0 ? near : own
  const options = [...new Set(pool.map(keyOf))].flatMap((key) => {
    const places = pool.filter((feature) => keyOf(feature) === key)
    return falseTerms(places[0], judged, unit.id).map((term) => exchange(unit.text, features, places[0], term))
  })
  const sound = options.filter((edits) => edits !== null && isSound(unit, goal, edits))
  return sound.length > 0 ? choose(sound, unit.id, 'value') : null
}

/** Writes `term` for a value and the value for `term`: "hypodense, not hyperdense" becomes "hyperdense, not hypodense". */
function exchange(text: string, features: readonly Feature[], value: Feature, term: string): EditProposal[] | null {
  return joinAll(
    features.flatMap((feature) => {
      if (feature.group !== value.group) return []
      if (feature.term === value.term) return [replaceWith(text, feature, term)]
      return feature.term === term ? [replaceWith(text, feature, value.term)] : []
    }),
  )
}

/** What the reference says in the place of each value that conflicts with it. */
function correctValues(text: string, { truth, decisive, asked }: Judged): EditProposal[] | null {
  const features = decisive.flatMap(({ claim }) => [...claim.about, ...claim.says])
  const positive = decisive
    .filter(({ claim }) => claim.positive)
    .flatMap(({ claim }) => [...claim.about, ...claim.says])
  const clashes = (feature: Feature) =>
    truth.some((other) => conflicts(feature, other) || areOffered(asked, feature, other))
  const wrong = positive.filter((feature) => clashes(feature) && !includes(truth, [feature]))
  const values = [...new Map(wrong.map((feature) => [keyOf(feature), feature])).values()]
  return joinAll(
    values.map((value) => {
      const right = truth.filter((other) => conflicts(value, other) || areOffered(asked, value, other))
      return right.length === 1 ? exchange(text, features, value, right[0].term) : null
    }),
  )
}

/** Two different words that the question lets choose from. */
const areOffered = ({ offered }: Judged['asked'], a: Feature, b: Feature): boolean =>
  a.group === 'word' && keyOf(a) !== keyOf(b) && includes(offered, [a, b])

function replaceWith(text: string, feature: Feature, term: string): EditProposal[] | null {
  if (feature.group !== 'measure') return replaceFeature(text, feature, term)
  const [dimension, amount] = feature.term.split(' ')
  const [other, wanted] = term.split(' ')
  const written = Number(text.slice(feature.start, feature.end))
  if (dimension !== other || term.includes(' x ') || !Number.isFinite(written) || written === 0) return null
  return [replaceAmount(text, feature, (Number(wanted) * written) / Number(amount))]
}

/** Values that make a right answer wrong, likeliest first: what the question offers, else what the lexicon prefers. */
function falseTerms(feature: Feature, { asked }: Judged, id: string): string[] {
  const { group, term } = feature
  if (group === 'measure') {
    const [dimension, amount] = term.split(' ')
    // Off by half, as when another diameter was taken.
    const factor = choose([1.5, 0.5], id, 'measure')
    return term.includes(' x ') ? [] : [`${dimension} ${Number(amount) * factor}`]
  }
  if (group === 'number' || group === 'ordinal') {
    const value = Number(term)
    return [value + 1, ...(value > 1 ? [value - 1] : [])].map(String)
  }
  if (group === 'level')
    return [`${term[0]}${Math.max(1, Number(term.slice(1)) - 1)}`].filter((other) => other !== term)
  const offered = asked.offered
    .filter((other) => other.group === group && other.term !== term)
    .map((other) => other.term)
  if (offered.length > 0) return offered
  const named = asked.features.filter((other) => other.group === group).map((other) => other.term)
  return (groupNamed(group)?.partners(term) ?? []).filter((other) => !named.includes(other)).slice(0, 2)
}

function editSentence(unit: Unit, goal: Goal): EditProposal[] | null {
  const { checked, decided, correct } = readReportSentence(unit)
  if (!decided || correct !== (goal === 'counterfactual')) return null
  const wrong = checked.filter(({ right }) => !right)
  if (goal === 'repair') {
    return wrong.length === 1 ? firstSound(unit, goal, repairsOf(unit.text, wrong[0])) : null
  }
  const options = checked.flatMap((part) => falsificationsOf(unit.text, part))
  const sound = options.filter((edits) => edits !== null && isSound(unit, goal, edits))
  return sound.length > 0 ? choose(sound, unit.id, 'statement') : null
}

const presenceOf = (text: string, { claim, statement }: Checked): EditProposal[] | null =>
  flipPresence(claim, { text, tokens: statement.tokens, keepsOthers: false, keepsDegree: false })

function repairsOf(text: string, part: Checked): (EditProposal[] | null)[] {
  const { claim, by } = part
  const truth = [...by.about, ...by.says]
  const own = [...claim.about, ...claim.says]
  const wrong = own.filter((feature) => truth.some((other) => conflicts(feature, other)))
  const values = joinAll(
    wrong.map((feature) => {
      const [right] = truth.filter((other) => conflicts(feature, other))
      return replaceWith(text, feature, right.term)
    }),
  )
  // What the reference puts elsewhere is moved there: to deny it here would say what the reference does not speak of.
  if (by.positive && claim.positive) return [wrong.length > 0 ? values : null, otherState(part)]
  return [presenceOf(text, part)]
}

/** "Normal" of a heart that the reference calls enlarged: the state that the reference gives, in its own word. */
function otherState({ claim, by }: Checked): EditProposal[] | null {
  const [own, ...more] = claim.says
  const [right] = by.says
  const spelling = right && groupNamed(right.group)?.terms.get(right.term)?.[0]?.[0]
  if (!own || more.length > 0 || !claim.positive || !by.positive || !spelling || own.group === right.group) return null
  return [
    { start: own.start, end: own.end, replacement: spelling, category: groupNamed(own.group)?.category ?? 'finding' },
  ]
}

/** Only what the reference says too can be known to become false. */
function falsificationsOf(text: string, part: Checked): (EditProposal[] | null)[] {
  const { claim, by } = part
  if (!claim.positive || !by.positive) return [presenceOf(text, part)]
  const [state, ...more] = claim.says
  const opposite =
    state && more.length === 0 && roleOf(state) === 'state'
      ? groupNamed(state.group)?.partners(state.term)[0]
      : undefined
  // "The heart is abnormal" rather than "is not normal".
  if (opposite !== undefined) return [replaceFeature(text, state, opposite)]
  const shared = [...claim.about, ...claim.says].filter((feature) => includes([...by.about, ...by.says], [feature]))
  const values = shared.flatMap((feature) => {
    const group = groupNamed(feature.group)
    if (feature.group === 'number') return [replaceWith(text, feature, String(Number(feature.term) + 1))]
    const other = /^(?:place|degree|state)$/.test(group?.role ?? '') ? group?.partners(feature.term)[0] : undefined
    return other === undefined ? [] : [replaceFeature(text, feature, other)]
  })
  return [presenceOf(text, part), ...values]
}
