/** A text read segment by segment: its yes and no, its claims, or the word that could not be placed. */

import { includes } from './compare.js'
import { type Claim, claimsOf, Unclear } from './grammar/claims.js'
import { english, ownWords } from './grammar/english.js'
import { type OpenWords, readLexemes, scan } from './grammar/lexemes.js'
import { type Node, nodesOf, parse, part } from './grammar/parser.js'
import { type Segment, splitSegments, type Token } from './grammar/tokens.js'
import type { Feature, Lexeme } from './grammar/types.js'
import { words } from './lexicon.js'

/** A clause with its claims and where its words are. */
export interface Statement {
  clause: Node
  claims: Claim[]
  tokens: readonly Token[]
}

export interface Lead {
  said: 'yes' | 'no'
  /** "Correct": it agrees with what follows, and alone with nobody knows whom. */
  leans: boolean
  start: number
  end: number
}

export interface Reading {
  leads: Lead[]
  statements: Statement[]
  /** Why the text is not understood whole; null when it is. */
  problem: string | null
}

export interface ReadContext {
  open: OpenWords
  /** Features of the question: a question in the text that asks the same is an echo. */
  asked: readonly Feature[]
}

/** "?stroke" is a stroke that somebody thinks of. */
const DOUBTED = /^\s*\?|(?<![\p{L}\p{N}])\?\s*[\p{L}\p{N}]|\(\?\)/u

export function readText(text: string, context: ReadContext): Reading {
  const reading: Reading = { leads: [], statements: [], problem: null }
  const segments = splitSegments(text)
  if (DOUBTED.test(text)) return { ...reading, problem: 'a "?" before a word: hedged' }
  if (segments.length === 0) return { ...reading, problem: 'nothing is said' }
  for (const [index, segment] of segments.entries()) {
    if (segment.mark === '?') {
      if (index === 0 && segments.length > 1 && isEcho(text, segment, context)) continue
      return { ...reading, problem: 'it asks a question' }
    }
    const read = readSegment(segment, context.open)
    if (typeof read === 'string') return { ...reading, problem: read }
    reading.leads.push(...read.leads)
    reading.statements.push(...read.statements)
  }
  const claims = reading.statements.flatMap((statement) => statement.claims)
  if (claims.some((claim) => !claim.positive && claims.some((other) => isTakenBack(other, claim))))
    return { ...reading, problem: CONTRADICTION }
  // "It" after another noun may be that noun.
  const firstNoun = claims.findIndex((claim) => !claim.pronoun && claim.about.length > 0)
  if (firstNoun >= 0 && claims.slice(firstNoun + 1).some((claim) => claim.pronoun)) {
    return { ...reading, problem: 'it is open what "it" means' }
  }
  return reading
}

export const CONTRADICTION = 'it contradicts itself'

/** "In the left frontal lobe, not in the frontal lobe": the denial leaves nothing of the claim. */
function isTakenBack(claim: Claim, denial: Claim): boolean {
  const denied = [...denial.about, ...denial.says]
  return claim.positive && denied.length > 0 && includes([...claim.about, ...claim.says], denied)
}

function isEcho(text: string, segment: Segment, { asked }: ReadContext): boolean {
  const own = scan(text.slice(segment.start, segment.end))
  const names = (features: readonly Feature[]) =>
    features
      .map(({ group, term }) => `${group} ${term}`)
      .sort()
      .join()
  return names(own.features) === names(asked) && !own.rest.some((word) => /^(?:not|n't|no|without)$/.test(word))
}

/** Nobody says more in one clause; and the parser goes one call deeper with every word. */
const LONGEST = 150

/** One segment, or why it is not understood. */
function readSegment({ tokens }: Segment, open: OpenWords): Pick<Reading, 'leads' | 'statements'> | string {
  if (tokens.length > LONGEST) return `a sentence of ${tokens.length} words is too long`
  const lexemes = readLexemes(tokens, open)
  const { node, furthest } = parse(english, 'segment', tokens, lexemes)
  if (!node) return unreadable(tokens, furthest, coverage(tokens, lexemes))
  const leads = nodesOf(node, 'lead').map((lead): Lead => {
    const at = tokens[lead.from]
    return {
      said: part(lead, 'no_') ? 'no' : 'yes',
      leans: part(lead, 'agreed') !== undefined,
      start: at.start,
      end: tokens[lead.to - 1].end,
    }
  })
  try {
    const statements = nodesOf(node, 'clause').map((clause) => ({ clause, claims: claimsOf(clause), tokens }))
    if (reachesOn(statements, tokens)) return 'it is open how far its "no" reaches'
    return { leads, statements }
  } catch (error) {
    if (error instanceof Unclear) return error.message
    throw error
  }
}

/** "No edema, effusion": a bare noun after a denial may be denied as well. */
function reachesOn(statements: readonly Statement[], tokens: readonly Token[]): boolean {
  return statements.some(({ clause, claims }, index) => {
    const isNote = (clause.kids[0] as Node).rule === 'fragment' && claims.every(({ positive }) => positive)
    const before = statements.slice(0, index).flatMap((statement) => statement.claims)
    return isNote && tokens[clause.from - 1]?.form !== 'but' && before.some(({ positive }) => !positive)
  })
}

/** Which tokens some word of the lists or of the grammar covers. */
function coverage(tokens: readonly Token[], lexemes: readonly Lexeme[][]): boolean[] {
  const covered = tokens.map(({ form }) => ownWords.has(form))
  for (const { from, to } of lexemes.flat()) covered.fill(true, from, to)
  return covered
}

/** The word at which the reading ended, or an unknown one before it, with what kind of word it is. */
function unreadable(tokens: readonly Token[], furthest: number, known: readonly boolean[]): string {
  const unknown = tokens.findIndex(({ form }, at) => !known[at] && !words.doubted.has(form) && /\p{L}/u.test(form))
  const doubted = tokens.find(({ form }, at) => at >= furthest && words.doubtOf(form) !== undefined)
  if (unknown >= 0 && unknown <= furthest) return `"${tokens[unknown].form}" is not known`
  if (doubted) return `"${doubted.form}": ${words.doubtOf(doubted.form)}`
  if (unknown >= 0) return `"${tokens[unknown].form}" is not known`
  return `"${tokens[furthest]?.form ?? ''}" does not fit where it stands`
}
