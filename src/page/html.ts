/** HTML by template literals that escape what they are given, so that no text of a model or a file becomes markup. */

/** Markup that is known to be safe: made by `html` or vouched for with `trusted`. */
export class Html {
  constructor(readonly markup: string) {}

  toString(): string {
    return this.markup
  }
}

type Value = string | number | Html | null | undefined | false | readonly Value[]

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

/**
 * Escapes text for an element or a quoted attribute. Characters that HTML forbids (controls, lone surrogates) become
 * U+FFFD: the file must stay valid UTF-8 whatever a tokenizer gave back.
 */
export function escapeHtml(text: string): string {
  return text
    .replace(/(?![\t\n\r])[\p{Cc}\p{Cs}]/gu, '\ufffd')
    .replace(/[&<>"']/g, (character) => ENTITIES[character] ?? character)
}

/** Interpolated strings and numbers are escaped, `Html` is kept, lists are joined, and null, undefined and false vanish. */
export function html(strings: TemplateStringsArray, ...values: Value[]): Html {
  return new Html(strings.reduce((out, part, i) => out + render(values[i - 1]) + part))
}

/** Marks markup that this program made itself, for instance a chart. */
export const trusted = (markup: string) => new Html(markup)

function render(value: Value): string {
  if (value === null || value === undefined || value === false) return ''
  if (value instanceof Html) return value.markup
  if (Array.isArray(value)) return value.map(render).join('')
  return escapeHtml(String(value))
}
