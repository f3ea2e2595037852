/**
 * GREEN as the published code counts it (Stanford-AIMI/GREEN): the first blank line ends a section, what cannot be read counts as
 * nothing, and nothing matched is a score of 0. For numbers that are held against published ones; `readGreen` is the careful reader.
 */

import { pythonSpace } from '../python.js'

/** Counts and score of the published reading; it always has one. */
export interface GreenParity {
  significant: number[]
  insignificant: number[]
  matched: number
  green: number
}

/** The published reading of a reply. @param reply as the model wrote it, special tokens included. */
export function readGreenParity(reply: string): GreenParity {
  const text = answerOf(reply)
  const significant = countErrors(sectionOf(text, 'Clinically Significant Errors'))
  const insignificant = countErrors(sectionOf(text, 'Clinically Insignificant Errors'))
  const matched = countMatched(sectionOf(text, 'Matched Findings'))
  const errors = significant.reduce((sum, count) => sum + count, 0)
  return { significant, insignificant, matched, green: matched === 0 ? 0 : matched / (matched + errors) }
}

const heading = '[Explanation]:'
const turn = '<|assistant|>'

/** The answer without the prompt; where the answer repeats the format asked for, the part after the first heading is taken. */
function answerOf(reply: string): string {
  const last = (text: string, mark: string): string => text.slice(text.lastIndexOf(mark) + mark.length)
  let text = reply.includes(turn) ? last(reply, turn) : reply
  if (text.includes(heading)) {
    // The original asks for two forms and, by a slip, looks for the first alone.
    text = text.includes(`${heading}\n    <Explanation>\n`) ? text.split(heading)[1] : last(text, heading)
  }
  return text.replaceAll('</s>', '').replaceAll('<unk>', '')
}

// Python's \d and \b know more than JavaScript's, and its dot stops at \n alone.
const number = '\\p{Nd}+(?![\\p{L}\\p{N}_])(?=\\.)'
const countAfterColon = new RegExp(`(?<=: )${number}`, 'u')
const countAtStart = new RegExp(`^${number}`, 'u')

/** Up to the first blank line; null where there is no such heading, '' where it begins with "No". */
function sectionOf(text: string, name: string): string {
  const pattern = new RegExp(`\\[${name}\\]:${pythonSpace}*([\\s\\S]*?)(?:\\n${pythonSpace}*\\n|$)`)
  const section = pattern.exec(text)?.[1] ?? ''
  return section.startsWith('No') ? '' : section
}

function countErrors(section: string): number[] {
  for (const labels of ['abcdef', '123456']) {
    const lines = section.match(new RegExp(`\\([${labels[0]}-${labels[5]}]\\) [^\\n]*`, 'g'))
    if (!lines) continue
    const counts = [0, 0, 0, 0, 0, 0]
    // Of two lines with one label the one that sorts last counts.
    for (const line of lines.sort(byCodePoint)) {
      const count = countAfterColon.exec(line)
      if (count) counts[labels.indexOf(line[1])] = toNumber(count[0])
    }
    return counts
  }
  return [0, 0, 0, 0, 0, 0]
}

function countMatched(section: string): number {
  const count = countAtStart.exec(section)
  return count ? toNumber(count[0]) : 0
}

function byCodePoint(a: string, b: string): number {
  const [left, right] = [[...a], [...b]]
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const difference = (left[i].codePointAt(0) as number) - (right[i].codePointAt(0) as number)
    if (difference !== 0) return difference
  }
  return left.length - right.length
}

/**
 * Decimal digits of any script: Unicode keeps each script's ten together, from a multiple of ten or sixteen on. No count is larger
 * than numbers are exact: of hundreds of digits none is a share.
 */
function toNumber(digits: string): number {
  return Math.min(Number([...digits].map(digitOf).join('')), Number.MAX_SAFE_INTEGER)
}

function digitOf(digit: string): number {
  let zero = digit.codePointAt(0) as number
  const code = zero
  while (code - zero < 9 && /\p{Nd}/u.test(String.fromCodePoint(zero - 1))) zero--
  // Scripts of mathematical digits lie side by side: their blocks begin at 0x1d7ce.
  return code >= 0x1d7ce && code <= 0x1d7ff ? (code - 0x1d7ce) % 10 : code - zero
}
