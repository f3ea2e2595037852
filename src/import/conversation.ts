/** LLaVA-style conversations: one question with its image placeholder, one answer. */
import { LeftOut } from './draft.js'
import { Fields, type Notes, tidy } from './fields.js'

/** The question and the answer of `[{from: 'human', value}, {from: 'gpt', value}]`. */
export function readTurns(turns: unknown, key: string, note: Notes): { question: string; answer: string } {
  if (!Array.isArray(turns)) throw new LeftOut('wrong_type', `${key}: expected a list of turns`)
  if (turns.length !== 2)
    throw new LeftOut('multi_turn', `${key} has ${turns.length} turns, expected a question and an answer`)
  const [human, assistant] = turns.map((turn) => new Fields(turn, note))
  if (human.text('from', 'role') !== 'human' && human.text('from', 'role') !== 'user') {
    throw new LeftOut('wrong_type', `${key} does not begin with a question`)
  }
  const question = tidy(withoutPlaceholder(human.verbatim('value', 'content')), note)
  if (question === '') throw new LeftOut('empty_text', `${key}: the question is empty`)
  return { question, answer: assistant.text('value', 'content') }
}

/** The engine puts images where the chat format wants them; `<image>` in a text is the trainer's own mark for that. */
export function withoutPlaceholder(text: string): string {
  return text.replace(/\s*<image>\s*/g, ' ').trim()
}
