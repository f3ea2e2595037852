/** What reaches a terminal: no secret, and nothing of a record or a server that a terminal would obey. */
import { redact, withoutPasswords } from './secrets.js'

/** Everything that moves the cursor, changes colours, titles or the direction of a text; line feeds and tabs stay. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for.
const obeyed = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\p{Zl}\p{Zp}]|(?![\u200c\u200d])\p{Cf}/gu

/** A text for people, its control characters written as `\u001b`: what JSON calls them, so that JSON stays the same. */
export function forTerminal(text: string): string {
  return withoutPasswords(redact(text)).replace(obeyed, (character) => {
    const units = Array.from({ length: character.length }, (_, at) => character.charCodeAt(at))
    return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('')
  })
}
