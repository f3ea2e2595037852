/** Counts and measurements: where they stand, and how a sentence changes with them. */
import type { EditProposal } from '../edits.js'
import { matchCase } from './grammar.js'
import { grammar } from './lexicon.js'
import { agreeWithNumber, NOUN_PHRASE } from './polarity.js'

export interface NumberMention {
  value: number
  unit: string | null
  start: number
  /** Of the number alone, without its unit. */
  end: number
}

const words = grammar.numbers.join('|')
/** Not the 2 of T2, the 4 of 4th or the digits of a date. */
const NUMBER = new RegExp(
  `(?<![\\p{L}\\p{N}./-])(?:(\\d+(?:\\.\\d+)?)|\\b(${words})\\b(?!\\s+of\\b))(?:\\s*(${[...grammar.units].join('|')})(?![\\p{L}\\p{N}]))?(?![\\p{L}\\p{N}/]|[.,-]\\p{L}|[.,]\\d)`,
  'giu',
)

export function findNumbers(text: string): NumberMention[] {
  return [...text.matchAll(NUMBER)]
    .filter(
      (match) => !/\b(?:no|this|that|which|any|the)\s+$/i.test(text.slice(0, match.index)) || match[1] !== undefined,
    )
    .map((match) => {
      const written = match[1] ?? match[2]
      return {
        value: match[1] === undefined ? grammar.numbers.indexOf(written.toLowerCase()) : Number(written),
        unit: match[3]?.toLowerCase() ?? null,
        start: match.index,
        end: match.index + written.length,
      }
    })
}

/** The only number of a text that is a number and hardly more ("2", "two lungs", "5.6 cm"). */
export function plainNumber(text: string): NumberMention | null {
  const numbers = findNumbers(text)
  return numbers.length === 1 && text.slice(0, numbers[0].start).trim() === '' ? numbers[0] : null
}

/** Edits that write another number; noun and copula follow where one becomes many. Null where they cannot. */
export function changeNumber(text: string, mention: NumberMention, value: number): EditProposal[] | null {
  const { start, end, unit } = mention
  const written = text.slice(start, end)
  const spelled = /\p{L}/u.test(written) ? grammar.numbers[value] : undefined
  const replacement = spelled ? matchCase(written, spelled) : likeDecimals(written, value)
  const edits: EditProposal[] = [{ start, end, replacement, category: 'number' }]
  if (unit !== null || (mention.value === 1) === (value === 1)) return edits
  const noun = nounAfter(text, end)
  const agreed = noun && agreeWithNumber(noun.text, value)
  if (agreed === null) return null
  if (noun && agreed !== noun.text) edits.push({ ...noun.place, replacement: agreed as string, category: 'number' })
  const after = noun?.place.end ?? end
  const before = /(?<=\bthere\s)(is|are)\s+$/i.exec(text.slice(0, start))
  const copula = before ?? (noun && /^\s+(is|are)\b/i.exec(text.slice(after)))
  const right = value === 1 ? 'is' : 'are'
  if (!copula || copula[1].toLowerCase() === right) return edits
  const at = before ? before.index : after + copula[0].length - copula[1].length
  edits.push({ start: at, end: at + copula[1].length, replacement: right, category: 'number' })
  return edits
}

interface CountedNoun {
  text: string
  place: { start: number; end: number }
}

/** The noun that is counted; undefined where a preposition or nothing follows the number. */
function nounAfter(text: string, end: number): CountedNoun | undefined {
  const space = /^\s+(?!(?:in|of|on|at|is|are)\b)/i.exec(text.slice(end))?.[0]
  if (space === undefined) return undefined
  const phrase = NOUN_PHRASE.exec(text.slice(end + space.length))?.[0] ?? ''
  const noun = /(?<![\p{L}-])\p{Ll}[\p{L}-]*$/u.exec(phrase)?.[0]
  const nounEnd = end + space.length + phrase.length
  return noun === undefined ? undefined : { text: noun, place: { start: nounEnd - noun.length, end: nounEnd } }
}

function likeDecimals(written: string, value: number): string {
  const decimals = /\.(\d+)$/.exec(written)?.[1].length ?? (Number.isInteger(value) ? 0 : 1)
  return value.toFixed(decimals)
}
