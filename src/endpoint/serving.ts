/** Who gave the replies that a number rests on: names move to other models, so name and day stand beside every number. */
import type { Reply } from './request.js'

/** What is said of the replies. */
export interface ServedBy {
  /** Names that the server gave itself, in alphabetical order; empty where it does not say. */
  servedAs: string[]
  /** Day of the replies, `2026-11-28`, or the first and the last of them: `2026-11-27 to 2026-11-28`. */
  date: string
}

/** Collects names and days of replies, those from the cache with the day on which they came. */
export class Serving {
  readonly #names = new Set<string>()
  readonly #days = new Set<string>()

  add({ model, date = 'unknown day' }: Pick<Reply, 'model' | 'date'>): void {
    if (model !== undefined) this.#names.add(model)
    this.#days.add(date)
  }

  /** Without a reply the day is today. */
  about(): ServedBy {
    const days = [...this.#days].sort()
    const first = days[0] ?? new Date().toISOString().slice(0, 10)
    const last = days.at(-1) ?? first
    return { servedAs: [...this.#names].sort(), date: first === last ? first : `${first} to ${last}` }
  }
}
