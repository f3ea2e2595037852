/** What words are read as. */

/** One term, open word or number, where it stands. */
export interface Feature {
  /** Group of the lexicon, or `word`, `number`, `measure`, `ordinal`, `level`. */
  group: string
  term: string
  /** Place in the text. */
  start: number
  end: number
  /** Which form of the term it is; see groups.json. */
  slot: number
}

/** Tokens `[from, to)` read as one word of a class. */
export interface Lexeme {
  /** `term`, `open`, `number`, `word`, or a class of words.json. */
  kind: string
  text: string
  from: number
  to: number
  feature?: Feature
}
