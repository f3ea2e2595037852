/** What an answer says in the end, where it also thinks aloud. */

const reasoning = /<(think|thinking|thought|reasoning|reflection|scratchpad)>[\s\S]*?<\/\1>/gi
/** A template may open the block in the prompt, so that only its end stands in the answer. */
const closedReasoning = /^[\s\S]*<\/(?:think|thinking|thought|reasoning|reflection|scratchpad)>/i
const openReasoning = /<(?:think|thinking|thought|reasoning|reflection|scratchpad)>[\s\S]*$/i
const tagged = /<(answer|final_answer)>([\s\S]*?)<\/\1>/gi
const announced = /(?:^|[\n.!?*])[\s*_#]*(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\s*[*_]*\s*:[*_\s]*/gi

/**
 * The final answer in a text: what stands in the last answer tag, else in the last `\boxed{}`, else after the last "answer:", else
 * everything but the reasoning. Reasoning that does not end has no answer.
 */
export function finalAnswer(text: string): string {
  const said = text.replace(reasoning, '').replace(closedReasoning, '').replace(openReasoning, '')
  const inTag = [...said.matchAll(tagged)].at(-1)?.[2]
  if (inTag !== undefined) return inTag.trim()
  const boxed = lastBoxed(said)
  if (boxed !== undefined) return boxed.trim()
  const mark = [...said.matchAll(announced)].at(-1)
  const after = mark === undefined ? '' : said.slice(mark.index + mark[0].length).trim()
  return after === '' ? said.trim() : after
}

/** Braces may be nested; `\text{…}` inside is taken off. */
function lastBoxed(text: string): string | undefined {
  const start = text.lastIndexOf('\\boxed{')
  if (start < 0) return undefined
  const from = start + '\\boxed{'.length
  let depth = 1
  for (let at = from; at < text.length; at++) {
    if (text[at] === '{') depth++
    else if (text[at] === '}' && --depth === 0) return text.slice(from, at).replace(/\\text\{([^{}]*)\}/g, '$1')
  }
  return undefined
}
