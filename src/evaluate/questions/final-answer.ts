/** What an answer says in the end, where it also thinks aloud. */
import { blocksOf, tags } from '../../endpoint/blocks.js'
import { withoutReasoning } from '../../endpoint/reasoning.js'

const answerTags = tags('answer', 'final_answer')
// The look-behind is tried only where a word begins that fits: a long rule of stars is then read once, not once a star.
const announced = /(?=[tfa])(?<=(?:^|[\n.!?*])[\s*_#]*)(?:the\s+)?(?:final\s+)?answer(?:\s+is)?[\s*_]*:[*_\s]*/gi

/**
 * The final answer in a text: what stands in the last answer tag, else in the last `\boxed{}`, else after the last "answer:", else
 * everything but the reasoning. Reasoning that does not end has no answer.
 */
export function finalAnswer(text: string): string {
  const said = withoutReasoning(text)
  const inTag = blocksOf(said, answerTags).at(-1)?.content
  if (inTag !== undefined) return inTag.trim()
  const boxed = lastBoxed(said)
  if (boxed !== undefined) return boxed.replace(/\\text\{([^{}]*)\}/g, '$1').trim()
  const mark = [...said.matchAll(announced)].at(-1)
  const after = mark === undefined ? '' : said.slice(mark.index + mark[0].length).trim()
  return after === '' ? said.trim() : after
}

/** What stands in the last `\boxed{}`; braces may be nested. */
export function lastBoxed(text: string): string | undefined {
  const start = text.lastIndexOf('\\boxed{')
  if (start < 0) return undefined
  const from = start + '\\boxed{'.length
  let depth = 1
  for (let at = from; at < text.length; at++) {
    if (text[at] === '{') depth++
    else if (text[at] === '}' && --depth === 0) return text.slice(from, at)
  }
  return undefined
}
