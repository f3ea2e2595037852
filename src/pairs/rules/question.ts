/** What a question asks for: yes or no to a proposition, or a value that its answer brings. */
import { wordsOf } from '../words.js'
import { type Claim, claimsOf, Unclear } from './grammar/claims.js'
import { english } from './grammar/english.js'
import { openWordsOf, readLexemes, scan } from './grammar/lexemes.js'
import { isNode, type Node, nodesOf, parse, part } from './grammar/parser.js'
import { splitSegments } from './grammar/tokens.js'

import type { Feature } from './grammar/types.js'
import { inflection } from './lexicon.js'

export interface Asked {
  kind: 'polar' | 'value'
  /** What yes affirms, in its positive form; null when the question is not understood. */
  proposition: Claim | null
  /** "Is there no …", "… isn't it?": yes and no alone may be meant either way. */
  negative: boolean
  /** "Which kidney is absent?", "has it been removed?": what is not there is asked for. */
  absence: boolean
  /** "Which is larger?": of all that are so, the one that is it most. */
  compares: boolean
  /** Everything the question names, but not the alternatives it offers. */
  features: Feature[]
  /** The alternatives of "… left or right?". */
  offered: Feature[]
}

const NEGATION = /^(?:not|n't|no|without|never|neither|nor|except|besides|absence|lack)$/
const ABSENCE = /^(?:absent|missing|removed|resected|gone|resolved|excluded|ruled out)$/
const QUESTION_WORD = /\b(?:what|which|where|who|when|how|why|whose)\b|\bname\b|\bdescribe\b|\bstate\b/i
const POLAR_START = /^\W*(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should)\b/i

/** More, most, first and last; -er and -est, but for the words of lexica/inflection.json that only look so. */
export function compares(text: string): boolean {
  return wordsOf(text).some(
    (word) =>
      inflection.comparing.has(word) ||
      (/(?:est|most)$/.test(word) && !inflection.notComparing.has(word)) ||
      (/er$/.test(word) && isKnownAs(word, 'rank')),
  )
}

const isKnownAs = (word: string, name: string): boolean => scan(word).features.some(({ group }) => group === name)

export function readQuestion(question: string): Asked {
  const { features: all, rest } = scan(question)
  // "How large" presupposes no size.
  const features = all.filter(({ start }) => !/\bhow\s+$/i.test(question.slice(0, start)))
  const isAbsent = ({ group, term }: Feature) => group === 'presence' && term === 'absent'
  const absence = rest.some((word) => ABSENCE.test(word)) || features.some(isAbsent)
  const negated = rest.some((word) => NEGATION.test(word))
  const { offered, others } = alternatives(question, features)
  const isPolar = !QUESTION_WORD.test(question) && offered.length === 0
  if (!isPolar) {
    const missing = absence && !offered.some(isAbsent)
    const named = others.filter((feature) => !isAbsent(feature))
    const rest = { absence: missing, compares: compares(question), features: named, offered }
    return { kind: 'value', proposition: null, negative: negated, ...rest }
  }
  const proposition = propositionOf(question)
  // The negation of a tag ("…, isn't it?") turns nothing around.
  const inverted = proposition !== null && !proposition.positive && absence
  const isTurned = negated && POLAR_START.test(question)
  const negative = proposition
    ? (!proposition.positive && !inverted) || isTurned
    : negated || !POLAR_START.test(question)
  const positive = proposition && { ...proposition, positive: true }
  return { kind: 'polar', proposition: positive, negative, absence: inverted, compares: false, features, offered: [] }
}

/** Terms of one group on both sides of an "or": what the answer chooses from. */
function alternatives(question: string, features: Feature[]): { offered: Feature[]; others: Feature[] } {
  const or = /\bor\b|\bversus\b|\bvs\b/i.exec(question)?.index
  const before = features.filter((feature) => or !== undefined && feature.end <= or)
  const after = features.filter((feature) => or !== undefined && feature.start > or)
  const first = after.find(({ group }) => before.some((feature) => feature.group === group && group !== 'word'))
  // "Solid or cystic": two words that no list has, right beside the "or".
  const [left, right] = [before.at(-1), after[0]]
  const isAlone = (feature: Feature) => !before.some(({ group, end }) => group === 'word' && feature.start - end === 1)
  const isPlain =
    left?.group === 'word' &&
    right?.group === 'word' &&
    /^\s+or\s+$/i.test(question.slice(left.end, right.start)) &&
    isAlone(left) &&
    /^\W*$/.test(question.slice(right.end))
  if (!first && isPlain)
    return { offered: [left, right], others: features.filter((one) => one !== left && one !== right) }
  if (!first) return { offered: [], others: features }
  const offered = features.filter(({ group, term }) => group === first.group && term !== '')
  return { offered, others: features.filter((feature) => !offered.includes(feature)) }
}

function propositionOf(question: string): Claim | null {
  const segments = splitSegments(question)
  if (segments.length !== 1) return null
  const { tokens } = segments[0]
  const { node } = parse(english, 'polar', tokens, readLexemes(tokens, openWordsOf(question)))
  if (!node) return null
  try {
    const claims = claimsOfQuestion(node)
    return claims.length === 1 ? claims[0] : null
  } catch (error) {
    if (error instanceof Unclear) return null
    throw error
  }
}

/** The statement that each form of question is read as. */
const statements: Readonly<Record<string, string>> = {
  ...{ askThere: 'existence', askIs: 'condition', askMade: 'making', askShown: 'showing', askYou: 'existence' },
  ...{
    askCan: 'existence',
    askSeen: 'event',
    askGone: 'event',
    askLooks: 'lying',
    askLies: 'lying',
    askBelongs: 'lying',
  },
}

function claimsOfQuestion(polar: Node): Claim[] {
  const asked = part(polar, 'asked')
  if (!asked || !isNode(asked)) return nodesOf(polar, 'clause').flatMap(claimsOf)
  const form = asked.kids[0] as Node
  return claimsOf({ ...asked, rule: 'clause', kids: [{ ...form, rule: statements[form.rule] }] })
}
