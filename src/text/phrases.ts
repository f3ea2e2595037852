/** Character spans to token masks. */
import type { Range } from './normalize.js'
import type { Tokenizer } from './tokenizer.js'

/**
 * 1 for every token whose characters overlap a span, so a word keeps the token that carries its leading space. Empty
 * spans (pure insertions or deletions) select nothing. `length` pads with zeros: an end token is never in a phrase.
 */
export function phraseMask(offsets: readonly Range[], spans: readonly Range[], length = offsets.length): Uint8Array {
  const mask = new Uint8Array(length)
  offsets.forEach(([start, end], token) => {
    if (spans.some(([from, to]) => from < to && start < to && end > from)) mask[token] = 1
  })
  return mask
}

/**
 * The tokens of an answer as the method's first release made them: phrases stood between special tokens with a space on
 * either side, the text was tokenised, the special tokens were taken out. So a phrase is encoded without the space before
 * it, which becomes a token of its own, and words differ from what the model says. For parity runs only.
 */
export function encodeTagged(
  tokenizer: Pick<Tokenizer, 'encode'>,
  text: string,
  spans: readonly Range[],
): { ids: number[]; mask: number[] } {
  const ids: number[] = []
  const mask: number[] = []
  const add = (piece: string, inside: 0 | 1): void => {
    const encoded = tokenizer.encode(piece)
    ids.push(...encoded)
    mask.push(...encoded.map(() => inside))
  }
  let cursor = 0
  for (const [start, end] of spans.filter(([from, to]) => from < to)) {
    const gap = text.slice(cursor, start).trim()
    const lead = cursor > 0 ? ' ' : ''
    add(gap === '' ? lead : `${lead}${gap} `, 0)
    add(text.slice(start, end), 1)
    cursor = end
  }
  const rest = text.slice(cursor).trim()
  if (rest !== '') add(cursor > 0 ? ` ${rest}` : rest, 0)
  return { ids, mask }
}
