/** What a question asks for: yes or no to a proposition, or a value that its answer brings. */
import { type Claim, claimsOf, Unclear } from './grammar/claims.js'
import { type Feature, openWordsOf, readLexemes, roleOf, scan } from './grammar/lexemes.js'
import { english } from './grammar/english.js'
import { isNode, type Node, nodesOf, parse, part } from './grammar/parser.js'
import { splitSegments } from './grammar/tokens.js'

export interface Asked {
  kind: 'polar' | 'value'
  /** What yes affirms, in its positive form; null when the question is not understood. */
  proposition: Claim | null
  /** "Is there no …", "… isn't it?": yes and no alone may be meant either way. */
  negative: boolean
  /** Everything the question names, but not the alternatives it offers. */
  features: Feature[]
  /** The alternatives of "… left or right?". */
  offered: Feature[]
}

const NEGATION = /^(?:not|n't|no|without|never|neither|nor|except|besides|absence|lack)$/
const QUESTION_WORD = /\b(?:what|which|where|who|when|how|why|whose)\b|\bname\b|\bdescribe\b|\bstate\b/i
const POLAR_START = /^\W*(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should)\b/i

export function readQuestion(question: string): Asked {
  const { features: all, rest } = scan(question)
  // "How large" presupposes no size.
  const features = all.filter(({ start }) => !/\bhow\s+$/i.test(question.slice(0, start)))
  const negated = rest.some((word) => NEGATION.test(word))
  const { offered, others } = alternatives(question, features)
  const isPolar = !QUESTION_WORD.test(question) && offered.length === 0
  if (!isPolar) {
    return { kind: 'value', proposition: null, negative: negated, features: others, offered }
  }
  const proposition = propositionOf(question)
  // The negation of a tag ("…, isn't it?") turns nothing around.
  const negative = proposition ? !proposition.positive || (negated && POLAR_START.test(question)) : negated || !POLAR_START.test(question)
  return { kind: 'polar', proposition: proposition && { ...proposition, positive: true }, negative, features, offered: [] }
}

/** Terms of one group on both sides of an "or": what the answer chooses from. */
function alternatives(question: string, features: Feature[]): { offered: Feature[]; others: Feature[] } {
  const or = /\bor\b|\bversus\b|\bvs\b/i.exec(question)?.index
  const before = features.filter((feature) => or !== undefined && feature.end <= or)
  const after = features.filter((feature) => or !== undefined && feature.start > or)
  const first = after.find(({ group }) => before.some((feature) => feature.group === group && group !== 'word'))
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

/** A question is a statement with its verb in front: it is read by the rule of that statement. */
function claimsOfQuestion(polar: Node): Claim[] {
  const asked = part(polar, 'asked')
  if (!asked || !isNode(asked)) return nodesOf(polar, 'clause').flatMap(claimsOf)
  const has = (name: string) => part(asked, name) !== undefined
  const rule = has('removed')
    ? 'event'
    : has('made')
      ? 'made'
      : has('predicate')
        ? 'condition'
        : has('there') || has('see') || has('seen')
          ? has('subject')
            ? 'event'
            : 'existence'
          : has('show')
            ? 'showing'
            : has('belong') || has('lie') || has('look')
              ? 'lying'
              : 'existence'
  return claimsOf({ rule: 'clause', from: 0, to: 0, kids: [{ ...asked, rule }] })
}

/** Features of a question that narrow nothing down: an answer need not repeat them. */
export const isPicture = (feature: Feature): boolean => roleOf(feature) === 'image' || roleOf(feature) === 'region'
