/** Blocks between marks in what a model wrote. One pass over the text: answers are of any length, and marks that never close are many. */

/** A block with its marks; `content` is what stands between them. */
export interface Block {
  start: number
  end: number
  content: string
}

/** What opens a block and what closes it. */
export type Marks = readonly [opening: string, closing: string]

export const tags = (...names: readonly string[]): Marks[] => names.map((name) => [`<${name}>`, `</${name}>`])

const literally = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')

/** The blocks of these marks in any case, in order; each ends at the first mark that closes it. */
export function blocksOf(text: string, marks: readonly Marks[]): Block[] {
  const opening = new RegExp(marks.map(([open]) => `(${literally(open)})`).join('|'), 'gi')
  const closing = marks.map(([, close]) => new RegExp(literally(close), 'gi'))
  /** Kinds that do not close any more from here on. */
  const open = new Set<number>()
  const blocks: Block[] = []
  for (let match = opening.exec(text); match; match = opening.exec(text)) {
    const kind = match.slice(1).findIndex((mark) => mark !== undefined)
    if (open.has(kind)) continue
    closing[kind].lastIndex = opening.lastIndex
    const close = closing[kind].exec(text)
    if (!close) open.add(kind)
    else {
      const end = closing[kind].lastIndex
      blocks.push({ start: match.index, end, content: text.slice(opening.lastIndex, close.index) })
      opening.lastIndex = end
    }
  }
  return blocks
}

/** The text with something else in place of the blocks of these marks. */
export function withoutBlocks(text: string, marks: readonly Marks[], instead = ''): string {
  let rest = ''
  let at = 0
  for (const { start, end } of blocksOf(text, marks)) {
    rest += text.slice(at, start) + instead
    at = end
  }
  return rest + text.slice(at)
}

/** What stands between a mark and the next closing one, as written; undefined where there is none. */
export function between(text: string, opening: string, closing: string): string | undefined {
  const start = text.indexOf(opening)
  const end = start < 0 ? -1 : text.indexOf(closing, start + opening.length)
  return end < 0 ? undefined : text.slice(start + opening.length, end)
}
