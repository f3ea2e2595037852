/** Character spans to token masks. */
import type { Range } from './tokenizer.js'

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
