/** The JSON object in a language model's reply, which may stand in a code fence, in prose, or be nearly JSON. */
// Quotes, commas, comments and Python constants in all their variants: nothing to write again.
import { jsonrepair } from 'jsonrepair'

/**
 * @returns the object, or `undefined` when there is none or it was cut off. A repair that closes what a reply left open
 * would turn half a word into an edit, so only objects that end are looked at.
 */
export function parseNearJson(reply: string): unknown {
  const start = reply.indexOf('{')
  const end = start < 0 ? -1 : closingBrace(reply, start)
  if (end < 0) return undefined
  const text = reply.slice(start, end + 1)
  for (const parse of [JSON.parse, (near: string) => JSON.parse(jsonrepair(near))]) {
    try {
      return parse(text)
    } catch {
      // The next one, or nothing.
    }
  }
  return undefined
}

/** Where the object that opens at `start` closes, strings passed over; -1 when it never does. */
function closingBrace(text: string, start: number): number {
  let depth = 0
  let inString = false
  for (let i = start; i < text.length; i++) {
    const character = text[i]
    if (character === '\\') i++
    else if (character === '"') inString = !inString
    else if (!inString && (character === '{' || character === '[')) depth++
    else if (!inString && (character === '}' || character === ']') && --depth === 0) return i
  }
  return -1
}
