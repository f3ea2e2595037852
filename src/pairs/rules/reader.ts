/**
 * Reads an answer against its reference with word lists alone, and says so when it cannot. The offline provider judges
 * with it, and it has a veto on what any other judge said: it never saw the judge's words, only the texts.
 */
import type { Verdict } from '../build.js'
import { splitSentences, wordsOf } from '../words.js'
import { stem } from './grammar.js'
import { findMentions, type Group, grammar, type Mention } from './lexicon.js'
import { findNumbers, plainNumber } from './numbers.js'
import { finiteVerbs, leadingAnswer, mainClause, plainAnswer, polarityOf } from './polarity.js'

export interface Subject {
  task: 'vqa' | 'report'
  question: string
  reference: string
  text: string
}

export const undecided = (reason: string): Verdict => ({ correct: false, decided: false, reason })
export const decided = (correct: boolean, reason: string): Verdict => ({ correct, decided: true, reason })

/** The verdict on an answer, or on one sentence of a report. */
export function readAnswer(subject: Subject): Verdict {
  const { task, question, reference, text } = subject
  if (text.trim() === '') return undecided('the answer is empty')
  if (task === 'report') return readStatements(reference, text)
  const truth = plainAnswer(reference)
  if (truth) {
    const said = readYesNo(question, text)
    return said.answer ? decided(said.answer === truth, `the answer says ${said.answer}`) : undecided(said.reason)
  }
  if (isAboutOther(question, reference, text)) return undecided('the answer is about another finding')
  const number = plainNumber(reference)
  if (number) {
    const numbers = findNumbers(text)
    if (numbers.length !== 1) return undecided(`the answer has ${numbers.length} numbers`)
    if (/\b(?:less|more|greater|fewer|least|most|over|under|about|between)\b/i.test(text)) return undecided('a range')
    if (numbers[0].unit !== number.unit) return undecided('the units differ')
    return decided(numbers[0].value === number.value, `the answer says ${numbers[0].value}`)
  }
  return readTerms(question, reference, text)
}

/** Yes to "is there no …" may mean either. */
const NEGATIVE = /\b(?:no|not|without)\b|n['’]t\b/i

interface YesNo {
  answer: 'yes' | 'no' | null
  reason: string
  /** The sentence that says the same as the leading word, when there is one, with its place. */
  body: { text: string; start: number } | null
}

/** What an answer to a yes-or-no question says. Its body counts only where it speaks of what was asked. */
export function readYesNo(question: string, text: string): YesNo {
  const none = (reason: string): YesNo => ({ answer: null, reason, body: null })
  const lead = leadingAnswer(text)
  const offset = lead?.end ?? 0
  const sentence = splitSentences(
    text.slice(offset).replace(/^[\s,.;:!–—-]+/, (skipped) => ' '.repeat(skipped.length)),
  )[0]
  const body = sentence ? { text: sentence.text, start: sentence.start + offset } : null
  if (!body) return lead ? { answer: lead.said, reason: '', body: null } : none('nothing is said')
  const covers = speaksOf(question, body.text)
  if (NEGATIVE.test(question)) return none('the question is negative')
  const polarity = covers ? polarityOf(body.text) : null
  if (covers && !polarity) return none('more than one negation')
  const asked = sideOf(question)
  const named = sideOf(body.text)
  const otherSide = asked && named && asked !== named && polarity === 'affirmed'
  const said = polarity && ((polarity === 'affirmed') !== Boolean(otherSide) ? 'yes' : 'no')
  if (!lead) return said ? { answer: said, reason: '', body } : none('neither yes nor no')
  if (said && said !== lead.said) return none(`it opens with ${lead.said} and goes on to say ${said}`)
  return { answer: lead.said, reason: '', body }
}

function sideOf(text: string): string | null {
  const sides = new Set(findMentions(text).flatMap((mention) => (mention.group.name === 'side' ? [mention.term] : [])))
  return sides.size === 1 ? [...sides][0] : null
}

/** Where a picture was taken is context; a question is about the rest, unless there is no rest. */
const CONTEXT = /^(?:modality|region|plane|projection|sequence):/

/** At least two thirds of the question's own words are in the sentence, or it is a mere "It is." */
export function speaksOf(question: string, sentence: string): boolean {
  if (/^(?:yes|no)?\W*(?:it|they|there|this)\s+(?:is|are|does|do|has|can)(?:\s+not|n['’]t)?\W*$/i.test(sentence))
    return true
  const words = contentWords(question)
  const specific = words.filter((word) => !CONTEXT.test(word))
  // The other side answers a question about one side just as well.
  const anySide = (list: readonly string[]) => new Set(list.map((word) => word.replace(/^side:.*/, 'side')))
  const asked = anySide(specific.length > 0 ? specific : words)
  const said = anySide(contentWords(sentence))
  const shared = [...asked].filter((word) => said.has(word)).length
  return asked.size > 0 && shared * 3 >= asked.size * 2
}

/** Words that carry a claim, terms by name so that synonyms meet. */
export function contentWords(text: string): string[] {
  const mentions = findMentions(text)
  const rest = mentions.reduceRight((left, { start, end }) => `${left.slice(0, start)} ${left.slice(end)}`, text)
  const plain = wordsOf(rest).filter((word) => !grammar.stopWords.has(word) && !grammar.genericWords.has(word))
  return [...mentions.map(({ group, term }) => `${group.name}:${term}`), ...plain.map(stem)]
}

/** The terms of a text by group. */
export function termsByGroup(mentions: readonly Mention[]): Map<Group, Set<string>> {
  const found = new Map<Group, Set<string>>()
  for (const { group, term } of mentions) found.set(group, (found.get(group) ?? new Set()).add(term))
  return found
}

/** The question is about one finding and the answer about another; not where the finding is what is asked for. */
function isAboutOther(question: string, reference: string, text: string): boolean {
  const findings = (from: string) =>
    findMentions(from).flatMap(({ group, term }) => (group.name === 'finding' ? [term] : []))
  const asked = findings(question)
  const said = findings(text)
  if (asked.length === 0 || said.length === 0 || findings(reference).length > 0) return false
  return !said.some((finding) => asked.includes(finding))
}

/** The question asks for the largest, say, and the answer names the smallest. */
function turnsAround(question: string, text: string): boolean {
  const asked = wordsOf(question)
  const said = wordsOf(text)
  const has = (words: readonly string[], list: ReadonlySet<string>) => words.some((word) => list.has(word))
  return grammar.opposites.some(
    ([one, other]) =>
      (has(asked, one) && !has(asked, other) && has(said, other)) ||
      (has(asked, other) && !has(asked, one) && has(said, one)),
  )
}

/** A list that does not end names examples, and another example is not wrong. */
const OPEN_LIST = /\b(?:etc|others?|such as|e\.g)\b/i

/** The answer must name the reference's terms, no other of their groups, and every further word of the reference. */
function readTerms(question: string, reference: string, text: string): Verdict {
  if (OPEN_LIST.test(reference)) return undecided('the reference is an open list')
  if (NEGATIVE.test(question)) return undecided('the question is negative')
  if (turnsAround(question, text)) return undecided('the answer turns the question around')
  const claims = termsByGroup(findMentions(reference))
  const said = termsByGroup(findMentions(text))
  if (polarityOf(text) !== 'affirmed') return undecided('the answer is a denial')
  const missing: string[] = []
  for (const [group, terms] of claims) {
    const named = said.get(group)
    if (!named) missing.push(group.name)
    else if (![...named].some((term) => terms.has(term))) {
      // Terms of several places at once ("left lung, lower right") cannot be told apart by their names.
      if (terms.size > 1 || named.size > 1) return undecided(`several terms of ${group.name}`)
      return decided(false, `the ${group.name} is ${[...terms][0]}, not ${[...named][0]}`)
    } else if (named.size !== terms.size || [...named].some((term) => !terms.has(term))) {
      return undecided(`the ${group.name} is said in two ways`)
    }
  }
  const words = new Set(contentWords(text))
  missing.push(...contentWords(reference).filter((word) => !word.includes(':') && !words.has(word)))
  if (contentWords(reference).length === 0) return undecided('the reference has no word to look for')
  return missing.length > 0 ? undecided(`nothing is said of ${missing.join(', ')}`) : decided(true, 'the terms agree')
}

/** What a sentence of a report says about one finding. */
export interface Statement {
  finding: string
  present: boolean
  mention: Mention
  /** Terms that qualify it, by the name of their group. */
  qualifiers: ReadonlyMap<string, Mention>
}

const QUALIFIERS = new Set(['side', 'height', 'severity', 'size', 'apex-base'])
const DENIAL_BEFORE =
  /\b(?:no|without|not|negative for|free of|absence of|resolution of)\b(?!.*\b(?:but|however|although|with)\b)/i
const DENIAL_AFTER = /^[^.;]*?\b(?:is|are|was|were)\s+(?:not|absent)\b|^[^.;]*?\bcannot\b/i
const HEART = /\b(?:heart size|cardiac size|heart|cardiac silhouette|cardiomediastinal silhouette)\b/i
const HEART_STATE =
  /\b(?:is|are|remains?|appears?)\s+(?:(mildly |moderately |severely )?enlarged|(?:within )?normal(?: in size| limits)?)/i

/** The statements of a sentence; null when it holds something these rules would misread. */
export function statementsOf(sentence: string): Statement[] | null {
  if (/\b(?:may|might|possible|possibly|versus|vs|cannot exclude|rule out|resolved|prior|previous)\b/i.test(sentence))
    return null
  const mentions = findMentions(sentence)
  const findings = mentions.filter(({ group }) => group.name === 'finding')
  return findings.map((mention) => {
    const before = sentence.slice(0, mention.start)
    const present = !DENIAL_BEFORE.test(before) && !DENIAL_AFTER.test(sentence.slice(mention.end))
    const qualifiers = new Map<string, Mention>()
    // A qualifier belongs to the only finding of its sentence; with several it is open to which.
    if (findings.length === 1) {
      for (const name of QUALIFIERS) {
        const found = mentions.filter(({ group }) => group.name === name)
        if (found.length === 1) qualifiers.set(name, found[0])
      }
    }
    return { finding: mention.term, present, mention, qualifiers }
  })
}

/** `enlarged` or `normal` heart, where a sentence says so, and the words that say it. */
export function heartState(sentence: string): { enlarged: boolean; start: number; end: number } | null {
  if (!HEART.test(sentence)) return null
  const state = HEART_STATE.exec(sentence)
  if (!state) return null
  const words = state[0].replace(/^\S+\s+/, '')
  const start = state.index + state[0].length - words.length
  return { enlarged: /enlarged/i.test(words), start, end: start + words.length }
}

export interface ReportFacts {
  /** By finding: true, false, or null where the report says both. */
  present: Map<string, boolean | null>
  qualifiers: Map<string, string | null>
}

/** What a reference report says of each finding it names. */
export function factsOf(report: string): ReportFacts {
  const facts: ReportFacts = { present: new Map(), qualifiers: new Map() }
  const note = <T>(map: Map<string, T | null>, key: string, value: T): void => {
    map.set(key, map.has(key) && map.get(key) !== value ? null : value)
  }
  // A semicolon ends a statement as a full stop does, and one that has a statement to itself has its side to itself.
  for (const { text } of splitSentences(report.replaceAll(';', '.'))) {
    const heart = heartState(text)
    if (heart) note(facts.present, 'cardiomegaly', heart.enlarged)
    for (const { finding, present, qualifiers } of statementsOf(text) ?? []) {
      note(facts.present, finding, present)
      if (present) for (const [name, { term }] of qualifiers) note(facts.qualifiers, `${finding} ${name}`, term)
    }
  }
  return facts
}

export interface ReportFault {
  kind: 'presence' | 'heart' | 'qualifier'
  statement: Statement | null
  /** The name of the group and the true term, for a qualifier. */
  group?: string
  truth?: string
}

/** What is false in a sentence, and how many of its statements the reference knows. */
export function checkSentence(facts: ReportFacts, sentence: string): { known: number; faults: ReportFault[] } | null {
  const statements = statementsOf(sentence)
  if (!statements) return null
  const faults: ReportFault[] = []
  let known = 0
  const heart = heartState(sentence)
  const truth = facts.present.get('cardiomegaly')
  if (heart && typeof truth === 'boolean') {
    known++
    if (truth !== heart.enlarged) faults.push({ kind: 'heart', statement: null })
  }
  for (const statement of statements) {
    const fact = facts.present.get(statement.finding)
    if (typeof fact !== 'boolean') continue
    if (fact !== statement.present) faults.push({ kind: 'presence', statement })
    else if (fact) {
      const said = [...statement.qualifiers].map(([group, { term }]) => {
        return { group, term, truth: facts.qualifiers.get(`${statement.finding} ${group}`) }
      })
      for (const { group, term, truth } of said) {
        if (truth && truth !== term) faults.push({ kind: 'qualifier', statement, group, truth })
      }
      // "A right effusion" is not known to be right where the reference has an effusion and no side.
      if (said.some(({ truth }) => !truth)) continue
    }
    known++
  }
  return { known, faults }
}

function readStatements(reference: string, text: string): Verdict {
  const facts = factsOf(reference)
  let known = 0
  for (const sentence of splitSentences(text)) {
    const checked = checkSentence(facts, sentence.text)
    if (!checked) continue
    known += checked.known
    if (checked.faults.length > 0) {
      const [{ kind, statement, truth }] = checked.faults
      const what = statement?.finding ?? 'the heart'
      return decided(
        false,
        truth ? `${what}: the reference says ${truth}` : `${what}: ${kind} contradicts the reference`,
      )
    }
  }
  return known > 0 ? decided(true, `${known} statements agree`) : undecided('no statement that the reference knows')
}

/** Clauses and sentences that lean on a statement would be false or senseless once it changes. */
export function hasDependents(text: string): boolean {
  const sentences = splitSentences(text)
  return sentences.some(
    (sentence, index) =>
      (index > 0 && /^(?:this|it|its|these|they|therefore|thus|so|such|which|hence|as)\b/i.test(sentence.text)) ||
      mainClause(sentence.text) !== sentence.text ||
      /,\s*(?:with|and|so|or)\b/i.test(sentence.text) ||
      finiteVerbs(sentence.text) > 1 ||
      wordsOf(sentence.text).some((word) => grammar.dependent.has(word)),
  )
}
