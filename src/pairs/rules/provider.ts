/**
 * The offline provider. It knows negation, sides, places, severity, size, numbers, modalities, planes, organs and
 * findings, and refuses whatever it does not understand. Its edits are whole words with the agreement they need.
 */
import { choose } from '../choice.js'
import type { EditProposal } from '../edits.js'
import type { Goal, Judgement, Proposal, Provider, Refusal, Unit } from '../provider.js'
import { findMentions, type Mention } from './lexicon.js'
import { changeNumber, findNumbers, plainNumber } from './numbers.js'
import { flipSentence, leadingAnswer, plainAnswer, polarityOf } from './polarity.js'
import {
  checkSentence,
  factsOf,
  hasDependents,
  heartState,
  type ReportFault,
  readAnswer,
  readYesNo,
  speaksOf,
  statementsOf,
  termsByGroup,
} from './reader.js'
import { replaceMention } from './replace.js'

export class RulesProvider implements Provider {
  readonly name = 'rules'

  async judge(unit: Unit): Promise<Judgement> {
    return { ...readAnswer(unit), span: null, requests: [] }
  }

  async edit(unit: Unit, goal: Goal, _judgement: Judgement): Promise<Proposal | Refusal> {
    const edits = goal === 'repair' ? repair(unit) : counterfactual(unit)
    if (edits && edits.length > 0) return { edits, requests: [] }
    return {
      rejection: 'no_edit_found',
      detail: `the rules know no ${goal} of ${JSON.stringify(unit.text.slice(0, 80))}`,
    }
  }
}

function repair(unit: Unit): EditProposal[] | null {
  if (unit.task === 'report') return repairSentence(unit)
  if (plainAnswer(unit.reference)) return flipAnswer(unit)
  const number = plainNumber(unit.reference)
  if (number) return changeNumber(unit.text, findNumbers(unit.text)[0], number.value)
  if (hasDependents(unit.text)) return null
  const claims = termsByGroup(findMentions(unit.reference))
  const edits: EditProposal[] = []
  for (const mention of findMentions(unit.text)) {
    const terms = claims.get(mention.group)
    if (!terms || terms.has(mention.term)) continue
    if (isListed(unit.text, mention)) return null
    const replaced = terms.size === 1 ? replaceMention(unit.text, mention, [...terms][0]) : null
    if (!replaced) return null
    edits.push(...replaced)
  }
  return edits
}

/** Sides and places make the plausible errors; another organ is taken only where there is nothing nearer. */
const FAR = new Set(['organ', 'region', 'finding'])

function counterfactual(unit: Unit): EditProposal[] | null {
  const { id, task, question, reference, text } = unit
  if (task === 'report') return falsifySentence(unit)
  if (plainAnswer(reference)) return flipAnswer(unit)
  if (plainNumber(reference)) return shiftNumber(text, id)
  if (hasDependents(text)) return null
  // Another thing denied would be no contradiction: "no effusion" and "no pneumothorax" may both be true.
  if (polarityOf(text) !== 'affirmed') return flipSentence(text)
  const claimed = new Set([...termsByGroup(findMentions(reference)).keys()])
  const mentions = findMentions(text).filter(({ group }) => claimed.has(group))
  const options = [...termsByGroup(mentions)].flatMap(([group, terms]) => {
    const own = mentions.filter((mention) => mention.group === group)
    if (terms.size > 1 || own.some((mention) => isListed(text, mention))) return []
    const edits = swapAll(text, own, partnersOf(own[0], question))
    return edits ? [{ edits, far: FAR.has(group.name) }] : []
  })
  // "Left heart" for "left lung" would be implausible also where the side cannot be changed.
  const placed = [...claimed].some((group) => !FAR.has(group.name))
  const pool = options.filter(({ far }) => !(far && placed))
  return pool.length > 0 ? choose(pool, id, 'group').edits : null
}

/** Of several organs or findings in a row the others would stay, unjudged, beside the one that is replaced. */
function isListed(text: string, { group, start, end }: Mention): boolean {
  if (!FAR.has(group.name)) return false
  return (
    /^\s*,?\s*(?:and|or)\b|^\s*,\s*\p{L}/iu.test(text.slice(end)) ||
    /(?:\b(?:and|or)|,)\s+(?:an?\s+|the\s+)?$/i.test(text.slice(0, start))
  )
}

/** Where a question offers a choice, what it offers; else what is likeliest, but nothing the question presupposes. */
function partnersOf({ group, term }: Mention, question: string): readonly string[] {
  // "How large" presupposes no size.
  const presupposed = question.replace(/\bhow\s+\p{L}+/giu, '')
  const asked = findMentions(presupposed).flatMap((mention) => (mention.group === group ? [mention.term] : []))
  const offered = /\bor\b/i.test(question) ? asked.filter((other) => other !== term) : []
  if (offered.length > 0) return offered
  return group.partners(term).filter((other) => !asked.includes(other))
}

/** The first partner that fits every place the term stands at. */
function swapAll(text: string, mentions: readonly Mention[], partners: readonly string[]): EditProposal[] | null {
  for (const partner of partners) {
    const edits = mentions.map((mention) => replaceMention(text, mention, partner))
    if (edits.every((edit) => edit !== null)) return edits.flat()
  }
  return null
}

function shiftNumber(text: string, id: string): EditProposal[] | null {
  const numbers = findNumbers(text)
  if (numbers.length !== 1) return null
  const [{ value, unit }] = numbers
  // A measurement is off by half, as when another diameter was taken; a count is off by one.
  const wrong = unit === null ? [value + 1, ...(value > 1 ? [value - 1] : [])] : [value * 1.5, value * 0.5]
  const edits = wrong.map((other) => changeNumber(text, numbers[0], other)).filter((edit) => edit !== null)
  return edits.length > 0 ? choose(edits, id, 'number') : null
}

/** Turns yes into no or no into yes, in the opening word and in the sentence that repeats it. */
function flipAnswer({ question, text, id }: Unit): EditProposal[] | null {
  const { body } = readYesNo(question, text)
  const lead = leadingAnswer(text)
  const edits: EditProposal[] = []
  if (lead) {
    const start = lead.end - lead.said.length
    const original = text.slice(start, lead.end)
    const other = lead.said === 'yes' ? 'no' : 'yes'
    const replacement = /^\p{Lu}/u.test(original) ? other[0].toUpperCase() + other.slice(1) : other
    edits.push({ start, end: lead.end, replacement, category: 'presence' })
  }
  if (!body) return edits
  if (hasDependents(text.slice(body.start)) || !speaksOf(question, body.text)) return null
  const at = (edit: EditProposal) => ({ ...edit, start: edit.start + body.start, end: edit.end + body.start })
  const side = otherSide(question, body.text, lead !== null, id)
  const flipped = side ?? flipSentence(body.text)
  // Of two things denied together only the first would be affirmed, and the question may be about the second.
  if (flipped?.some(({ replacement }) => replacement === 'but no')) return null
  return flipped && flipped.length > 0 ? [...edits, ...flipped.map(at)] : null
}

/**
 * "The effusion is on the left" answers "Is it on the left?" falsely as "on the right". Needed where the sentence names
 * the other side already; a choice where it names the same one and nothing opens with yes or no.
 */
function otherSide(question: string, body: string, hasLead: boolean, id: string): EditProposal[] | null {
  const sides = (text: string) => findMentions(text).filter(({ group }) => group.name === 'side')
  const [asked, ...more] = sides(question)
  const [named, ...others] = sides(body)
  if (!asked || !named || more.length > 0 || others.length > 0) return null
  const differs = asked.term !== named.term
  if (!differs && (hasLead || /\b(no|not)\b/i.test(body) || choose([true, false], id, 'side'))) return null
  return replaceMention(body, named, named.term === 'left' ? 'right' : 'left')
}

function repairSentence({ reference, text }: Unit): EditProposal[] | null {
  const checked = checkSentence(factsOf(reference), text)
  if (checked?.faults.length !== 1) return null
  const [fault] = checked.faults
  if (fault.kind === 'heart') return flipHeart(text)
  return fault.kind === 'presence' ? flipStatement(text, fault) : requalify(text, fault, fault.truth as string)
}

function falsifySentence({ id, reference, text }: Unit): EditProposal[] | null {
  const facts = factsOf(reference)
  const checked = checkSentence(facts, text)
  if (!checked || checked.known === 0 || checked.faults.length > 0) return null
  const options: (EditProposal[] | null)[] = [heartState(text) && flipHeart(text)]
  for (const statement of statementsOf(text) ?? []) {
    if (facts.present.get(statement.finding) !== statement.present) continue
    options.push(flipStatement(text, { kind: 'presence', statement }))
    if (!statement.present) continue
    for (const [name, { group, term }] of statement.qualifiers) {
      // Only what the reference says too can be known to become false.
      if (facts.qualifiers.get(`${statement.finding} ${name}`) !== term) continue
      const [wrong] = group.partners(term)
      if (wrong) options.push(requalify(text, { kind: 'qualifier', statement, group: name }, wrong))
    }
  }
  const known = options.filter((edits) => edits !== null)
  return known.length > 0 ? choose(known, id, 'statement') : null
}

/** Flips the sentence when that flips this statement and no other. */
function flipStatement(text: string, { statement }: ReportFault): EditProposal[] | null {
  const statements = statementsOf(text) ?? []
  if (!statement || statements[0]?.finding !== statement.finding) return null
  const isList = statements.length === 2 && !statement.present && /\bor\b/i.test(text)
  return statements.length === 1 || isList ? flipSentence(text) : null
}

function requalify(text: string, { statement, group }: ReportFault, term: string): EditProposal[] | null {
  const mention = group && statement?.qualifiers.get(group)
  return mention ? replaceMention(text, mention, term) : null
}

function flipHeart(text: string): EditProposal[] | null {
  const state = heartState(text)
  if (!state) return null
  const replacement = state.enlarged ? 'normal' : 'enlarged'
  return [{ start: state.start, end: state.end, replacement, category: 'finding' }]
}
