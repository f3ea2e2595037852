/** Texts as words and sentences, each with its place. */

export interface Word {
  text: string
  start: number
  end: number
}

/** Numbers with their decimals, words with hyphens and apostrophes, single Han characters, single punctuation marks. */
const TOKEN =
  /\p{Script=Han}|\p{N}+(?:[.,]\p{N}+)*[\p{L}\p{M}]*|(?!\p{Script=Han})[\p{L}\p{M}](?:(?!\p{Script=Han})[\p{L}\p{M}\p{N}])*(?:['’-][\p{L}\p{N}]+)*|\S/gu

const SPOKEN = /[\p{L}\p{N}]/u

/** Words and punctuation marks in order. */
export function splitTokens(text: string): Word[] {
  return [...text.matchAll(TOKEN)].map((match) => ({
    text: match[0],
    start: match.index,
    end: match.index + match[0].length,
  }))
}

/** The words alone, in lower case. */
export function wordsOf(text: string): string[] {
  return splitTokens(text)
    .map((token) => token.text.toLowerCase())
    .filter((word) => SPOKEN.test(word))
}

/** A full stop, question or exclamation mark before a space, and line breaks end a sentence; the number of a list does not. */
const SENTENCE_END = /(?<=[.!?]["”’)]?)\s+|[。！？]|\n+/gu
const NO_END = /(?:^|\s)(?:\d+|e\.g|i\.e|vs|dr|approx|no|fig)\.$/iu

/** Sentences without the spaces around them. */
export function splitSentences(text: string): Word[] {
  const ends = [...text.matchAll(SENTENCE_END)]
    .map((match) => match.index + (/\s/.test(match[0][0]) ? 0 : match[0].length))
    .filter((end) => !NO_END.test(text.slice(0, end)))
  return [...ends, text.length].flatMap((end, index, all) => {
    const from = index === 0 ? 0 : all[index - 1]
    const raw = text.slice(from, end)
    const body = raw.trim()
    if (body === '') return []
    const start = from + raw.indexOf(body)
    return [{ text: body, start, end: start + body.length }]
  })
}

/** Longer texts than this are not compared word by word. */
const MOST_CELLS = 4_000_000

/** How many words have to be inserted, deleted or replaced; the longer length where that would take too long to find out. */
export function wordDistance(whole: readonly string[], other: readonly string[]): number {
  let head = 0
  while (head < whole.length && head < other.length && whole[head] === other[head]) head++
  let tail = 0
  const most = Math.min(whole.length, other.length) - head
  while (tail < most && whole[whole.length - 1 - tail] === other[other.length - 1 - tail]) tail++
  const a = whole.slice(head, whole.length - tail)
  const b = other.slice(head, other.length - tail)
  if (a.length * b.length > MOST_CELLS) return Math.max(a.length, b.length)
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (const [i, word] of a.entries()) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j++) {
      next.push(Math.min(row[j + 1] + 1, next[j] + 1, row[j] + (word === b[j] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]
}
