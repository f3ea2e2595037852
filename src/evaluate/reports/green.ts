/**
 * What a reply of a GREEN model says (Ostmeier et al., "GREEN: Generative Radiology Report Evaluation and Error Notation", 2024). The
 * reader takes what is clear although it is not as asked, says so, and refuses the rest with a reason: a number is never invented.
 */
import type { GreenReading } from '../records.js'

const names = {
  explanation: /explanation/,
  significant: /clinically significant errors/,
  insignificant: /clinically insignificant errors/,
  matched: /matched findings/,
} as const
type Section = keyof typeof names

/** Why a reply cannot be read, as it stands in `GreenReading.reason`. */
class Unreadable extends Error {
  constructor(readonly reason: string) {
    super(reason)
  }
}

/**
 * Reads a reply with four headed sections: explanation, significant and insignificant errors by category (a) to (f), matched
 * findings with their count in front.
 *
 * @param finishReason as the server gave it; `length` means that the reply was cut off.
 */
export function readGreen(reply: string, finishReason: string | null = null): GreenReading {
  const repairs = new Set<string>()
  try {
    if (reply.trim() === '') throw new Unreadable('empty')
    if (finishReason === 'length') throw new Unreadable('cut_off')
    const sections = sectionsOf(plainLines(reply, repairs), repairs)
    const significant = errorsOf(sections.get('significant'), 'significant', repairs)
    const matched = matchedOf(sections.get('matched'), repairs)
    const aside = sections.get('insignificant')
    if (aside === undefined) repairs.add('insignificant_missing')
    const insignificant = aside === undefined ? null : errorsOf(aside, 'insignificant', repairs)
    const errors = significant.reduce((sum, count) => sum + count, 0)
    return {
      status: repairs.size > 0 ? 'repaired' : 'ok',
      reason: null,
      repairs: [...repairs],
      significant,
      insignificant,
      matched,
      green: matched + errors === 0 ? null : matched / (matched + errors),
    }
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error
    const nothing = { significant: null, insignificant: null, matched: null, green: null }
    return { status: 'unreadable', reason: error.reason, repairs: [], ...nothing }
  }
}

/** The lines of the answer, without the prompt, special tokens and a code fence around it. */
function plainLines(reply: string, repairs: Set<string>): string[] {
  let text = (reply.split('<|assistant|>').at(-1) as string).replaceAll('</s>', '').replaceAll('<unk>', '')
  const ends = text.replace(/\r\n?|[\v\f\x85\u2028\u2029]/g, '\n')
  if (ends !== text) repairs.add('line_ends')
  text = ends.trim()
  const fenced = /^```\w*\n([\s\S]*?)\n?```$/.exec(text)
  if (fenced) repairs.add('fence')
  return (fenced?.[1] ?? text).split('\n')
}

/** `[Name]:`, with or without brackets, bold, hashes, in any case; the text after it on the line belongs to the section. */
const headingLine =
  /^(?<before>[\s#*_>]*)(?<open>\[?)(?<name>[A-Za-z ]+)(?<close>\]?)(?<marks>[*_]*)(?<colon>:?)(?<after>[*_]*)(?<rest>.*)$/

function headingOf(line: string): { section: Section; rest: string; exact: boolean } | undefined {
  const { before, open, name, close, marks, colon, after, rest } = headingLine.exec(line)?.groups ?? {}
  if (name === undefined) return undefined
  const found = Object.entries(names).find(([, pattern]) => new RegExp(`^${pattern.source}$`, 'i').test(name.trim()))
  // "Matched findings are few" is a sentence, not a heading.
  if (!found || (!colon && rest.trim() !== '')) return undefined
  const exact =
    /^\[[A-Z][a-z]+( [A-Z][a-z]+)*\]:/.test(line) && !before && !!open && !!close && !marks && !!colon && !after
  return { section: found[0] as Section, rest, exact }
}

function sectionsOf(lines: readonly string[], repairs: Set<string>): Map<Section, string[]> {
  const sections = new Map<Section, string[]>()
  const readings: { section: Section; body: string[] }[] = []
  for (const line of lines) {
    const heading = headingOf(line)
    if (!heading) readings.at(-1)?.body.push(line)
    else {
      if (!heading.exact) repairs.add('headings')
      readings.push({ section: heading.section, body: [heading.rest] })
    }
  }
  for (const { section, body } of readings) {
    const said = body.map((line) => line.trim()).filter((line) => line !== '')
    const earlier = sections.get(section)
    if (earlier && section !== 'explanation' && earlier.join('\n') !== said.join('\n')) {
      throw new Unreadable('section_twice')
    }
    sections.set(section, said)
  }
  if (![...sections.keys()].some((section) => section !== 'explanation')) throw new Unreadable('no_sections')
  return sections
}

/** `(a) `, `a)`, `- (1)`: a label and what follows it. */
const item = /^(?:[-*•]\s*)?(?:\(\s*([A-Za-z]|\d+)\s*\)|([A-Za-z]|\d+)\))\s*(.*)$/
/** The same in bold, or with a full stop or colon: `**(b) Missing**`, `b. Missing`. */
const oddItem = /^(?:[-*•]\s+)?[*_]*\(?\s*([A-Za-z])\s*(?:\)|[.:](?=[\s*_]))[*_]*\s*(.*)$/
/** A count that belongs to no label: its errors would be lost. */
const countOfNothing = /:[\s*_]*\d+\s*(?:\.(?!\d)|$)/
const furtherItem = /\(\s*[a-z1-9]\s*\)\s*\p{L}/iu
const nothing = /^(no|none|nil|n\/a)\b/i

/** Counts of the categories a to f. */
function errorsOf(
  lines: readonly string[] | undefined,
  name: 'significant' | 'insignificant',
  repairs: Set<string>,
): number[] {
  if (lines === undefined) throw new Unreadable(`missing_${name}`)
  if (lines.length === 0) throw new Unreadable(`empty_${name}`)
  const items = lines.flatMap((line) => {
    const match = item.exec(line)
    if (match) return [{ label: (match[1] ?? match[2]).toLowerCase(), text: match[3] }]
    const odd = oddItem.exec(line)
    if (!odd && countOfNothing.test(line)) throw new Unreadable('count_without_label')
    if (!odd) return []
    repairs.add('items')
    return [{ label: odd[1].toLowerCase(), text: odd[2].replace(/[*_]{2,}/g, '') }]
  })
  if (items.length === 0) {
    if (nothing.test(lines[0]) && !/[1-9]/.test(lines[0])) return [0, 0, 0, 0, 0, 0]
    throw new Unreadable('no_items')
  }
  if (new Set(items.map(({ label }) => /\d/.test(label))).size > 1) throw new Unreadable('mixed_labels')
  const counts: (number | undefined)[] = new Array(6)
  for (const { label, text } of items) {
    const category = /\d/.test(label) ? Number(label) - 1 : label.charCodeAt(0) - 97
    if (category < 0 || category > 5) throw new Unreadable('unknown_category')
    if (furtherItem.test(text)) throw new Unreadable('items_on_one_line')
    const count = countOf(text.slice(text.indexOf(':') + 1), repairs)
    if (counts[category] !== undefined && counts[category] !== count) throw new Unreadable('category_twice')
    counts[category] = count
  }
  return Array.from(counts, (count) => count ?? 0)
}

function matchedOf(lines: readonly string[] | undefined, repairs: Set<string>): number {
  if (lines === undefined) throw new Unreadable('missing_matched')
  if (lines.length === 0) throw new Unreadable('empty_matched')
  // Two counts, or a numbered list without one.
  if (lines.slice(1).some((line) => /^\d+\.(?!\d)/.test(line))) throw new Unreadable('count_twice')
  return countOf(lines[0].replace(/^[-*•]\s*/, ''), repairs, 0)
}

const words = [
  'zero',
  'one',
  'two',
  'three',
  'four',
  'five',
  'six',
  'seven',
  'eight',
  'nine',
  'ten',
  'eleven',
  'twelve',
]
/** More findings no report has; such a number is a year or a size. */
const mostFindings = 99

/**
 * The count at the start of a text, "2. Effusion; edema".
 * @param ofNothing what "No findings" means; a bare "No" among categories is a form of 0 that was not asked for.
 */
function countOf(text: string, repairs: Set<string>, ofNothing?: number): number {
  const said = text.trim()
  const digits = /^(\d+)(\.(?!\d))?/.exec(said)
  if (digits) {
    if (/^\d+([.,]\d|\s*(cm|mm|ml|cc|%))/i.test(said) || Number(digits[1]) > mostFindings)
      throw new Unreadable('bad_count')
    if (/^\d+\s*(-|–|to|or)\s*\d/.test(said)) throw new Unreadable('bad_count')
    if (!digits[2]) repairs.add('count_form')
    return Number(digits[1])
  }
  const spelled = words.findIndex((word) => new RegExp(`^${word}\\b`, 'i').test(said))
  if (spelled >= 0) {
    repairs.add('count_form')
    return spelled
  }
  if (!nothing.test(said)) throw new Unreadable('count_missing')
  if (ofNothing === undefined) repairs.add('count_form')
  return 0
}
