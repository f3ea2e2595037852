/** What an inspection finds, ready to be shown or written as JSON. */
import type { Counts, Spread } from './tally.js'

/** `error`: no stage can use the record; `warning`: it can, and somebody should know. */
export type Severity = 'error' | 'warning'

/** One kind of mistake, counted. */
export interface Problem {
  severity: Severity
  /** What is wrong, without the place: `the id is taken`. */
  what: string
  count: number
  /** The first few places: `line 12: record q3: …`. */
  places: string[]
}

/** A text and the parts of it that an edit touches, in order. */
export interface MarkedText {
  label: string
  text: string
  marks: { start: number; end: number; kind: 'chosen' | 'rejected' }[]
}

/** A record to look at. */
export interface Example {
  title: string
  texts: MarkedText[]
}

/** What one file holds and what is wrong with it. */
export interface Inspection {
  path: string
  /** `samples`, `responses`, `failed questions`, `pairs`, `rejected answers`, `verdicts`, `masks`, `metrics`, `document`, …, or `unknown`. */
  kind: string
  records: number
  /** Single numbers worth a line. */
  facts: [name: string, value: string | number][]
  distributions: { name: string; counts: Counts }[]
  spreads: { name: string; spread: Spread }[]
  examples: Example[]
  problems: Problem[]
}

const shownPlaces = 5

/** Collects problems of the same kind under one heading. */
export class Problems {
  readonly #found = new Map<string, Problem>()

  add(severity: Severity, what: string, place: string): void {
    const problem = this.#found.get(what) ?? { severity, what, count: 0, places: [] }
    problem.count += 1
    if (problem.places.length < shownPlaces) problem.places.push(place)
    this.#found.set(what, problem)
  }

  /** Errors first, then by how often they came. */
  list(): Problem[] {
    const rank = ({ severity, count }: Problem): number => (severity === 'error' ? 2 ** 40 : 0) + count
    return [...this.#found.values()].sort((a, b) => rank(b) - rank(a))
  }
}
