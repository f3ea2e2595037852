/** Thinking aloud before an answer, in the marks that models use for it. */
import { tags, withoutBlocks } from './blocks.js'

const words = ['think', 'thinking', 'thought', 'reasoning', 'reflection', 'scratchpad']
const blocks = tags(...words)
/** A template may open the block in the prompt, so that only its end stands in the text. */
const closed = new RegExp(
  `^[\\s\\S]*(?:</(?:${words.join('|')})>|\\[/THINK\\]|<\\|channel\\|>final<\\|message\\|>)`,
  'i',
)

/** In what `afterReasoning` leaves: reasoning that does not end. */
export const openReasoning = new RegExp(`<(?:${words.join('|')})>|\\[THINK\\]`, 'i')

/** The text without its reasoning. */
export const afterReasoning = (text: string): string => withoutBlocks(text, blocks).replace(closed, '')

/** The same, also without reasoning that does not end. */
export const withoutReasoning = (text: string): string => afterReasoning(text).split(openReasoning, 1)[0]
