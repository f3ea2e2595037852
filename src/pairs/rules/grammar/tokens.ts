/** A text as tokens: words, numbers and marks, each with its place and the form in which it is looked up. */

export interface Token {
  /** Lower case, NFKC, straight apostrophes: "ﬁbrosis" and "Fibrosis" are looked up as "fibrosis". */
  form: string
  start: number
  end: number
}

/** Numbers with their sign and their decimals (but "3-5" is a range), letters with digits (L4, T2), any other character by itself. */
const TOKEN = /(?<![\p{L}\p{N})])[-–−]?\p{N}+(?:\.\p{N}+)?(?!\p{L})|[\p{L}\p{M}\p{N}]+|\S/gu

/** A draft that its writer marks as one is not part of the answer. */
const DRAFT = /^\s*<think>[\s\S]*?<\/think>/i

/** Marks of emphasis and headings, which say nothing. */
const MARKUP = /[*_#`]/

/** Where the answer begins once a marked draft is passed over. */
function answerStart(text: string): number {
  return DRAFT.exec(text)?.[0].length ?? 0
}

export function tokenize(text: string): Token[] {
  const from = answerStart(text)
  const found: Token[] = []
  for (const match of text.slice(from).matchAll(TOKEN)) {
    const start = from + match.index
    const end = start + match[0].length
    const form = match[0]
      .normalize('NFKC')
      .toLowerCase()
      .replace(/[‘’]/, "'")
      .replace(/[“”]/, '"')
      .replace(/×/, 'x')
      .replace(/^[–−](?=\p{N})/u, '-')
    if (MARKUP.test(form)) continue
    found.push({ form: /[–—]/.test(form) ? '-' : form, start, end })
  }
  return unquote(found.flatMap((token, index) => contraction(token, found, index)))
}

/** "isn't" is `is` and `n't`, "there's" is `there` and `'s`, "cannot" is `can` and `not`. */
function contraction(token: Token, all: readonly Token[], index: number): Token[] {
  const { form, start, end } = token
  const touches = (other: Token | undefined, at: number) =>
    other !== undefined && (other.end === at || other.start === at)
  const next = all[index + 1]
  const previous = all[index - 1]
  if (form === 'cannot')
    return [
      { form: 'can', start, end: start + 3 },
      { form: 'not', start: start + 3, end },
    ]
  if (next?.form === "'" && touches(next, end) && all[index + 2]?.form === 't' && /n$/.test(form)) {
    const verb = form === 'can' ? form : form.slice(0, -1)
    const cut = form === 'can' ? end : end - 1
    return [
      { form: verb, start, end: cut },
      { form: "n't", start: cut, end: all[index + 2].end },
    ]
  }
  if (previous?.form === "'" && touches(previous, start) && /^[st]$/.test(form)) return []
  if (form === "'" && touches(previous, start)) {
    if (next?.form === 's' && touches(next, end)) return [{ form: "'s", start, end: next.end }]
    if (next?.form === 't' && touches(next, end)) return []
  }
  return [token]
}

/** Quotation marks around all of an answer; any others are somebody else's words. */
function unquote(tokens: Token[]): Token[] {
  const isQuoted = tokens.length > 2 && tokens[0].form === '"' && tokens[tokens.length - 1].form === '"'
  const inner = tokens.slice(1, -1)
  return isQuoted && !inner.some(({ form }) => form === '"' || form === '?') ? inner : tokens
}

const BREAK = /^[.!?;。！？]$/

export interface Segment {
  tokens: Token[]
  /** The mark that ends it, or an empty text at the end of a line. */
  mark: string
  start: number
  end: number
}

/** Stretches between full stops, semicolons and line breaks, which are read one by one. */
export function splitSegments(text: string): Segment[] {
  const segments: Segment[] = []
  let current: Token[] = []
  const close = (mark: string, end: number) => {
    if (current.length > 0) segments.push({ tokens: current, mark, start: current[0].start, end })
    current = []
  }
  for (const token of tokenize(text)) {
    const last = current.at(-1)
    if (last && /\n/.test(text.slice(last.end, token.start))) close('', last.end)
    if (BREAK.test(token.form)) close(token.form, token.end)
    else if (current.length === 0 && /^[-•]$/.test(token.form)) continue
    else current.push(token)
  }
  close('', current.at(-1)?.end ?? 0)
  return segments
}
