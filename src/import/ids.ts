/** Ids of records, each once in an import. Where a source counts anew in each split or file, they are told apart. */
import { createHash } from 'node:crypto'
import { basename, extname } from 'node:path'
import { type Draft, LeftOut, type Row } from './draft.js'
import type { Notes } from './fields.js'

export class Ids {
  /** Which claim an id belongs to. */
  readonly #claims = new Map<string, number>()
  /** Of each claim two numbers, since there may be millions: where it stands, and a hash of what it says. */
  #facts = new Int32Array(1024)
  /** Numbers for the splits of files. */
  readonly #places = new Map<string, number>()

  /**
   * The id that a record gets: its own, or with its split, its file or a number behind it.
   * @throws {LeftOut} `duplicate_id` for a second record of the same id in a split of a file, and for a copy elsewhere.
   */
  claim(draft: Draft, { file, group }: Row, record: number, note: Notes): string {
    const { id, split } = draft
    const key = JSON.stringify([file, group, split])
    const place = this.#places.get(key) ?? this.#places.size
    this.#places.set(key, place)
    const content = hashOf(draft)
    let unique = id
    for (let count = 0, earlier = this.#claims.get(id); earlier !== undefined; count += 1) {
      if (this.#facts[2 * earlier] === place || this.#facts[2 * earlier + 1] === content) {
        throw new LeftOut('duplicate_id', `record ${earlier} of the import has the same id`)
      }
      unique = `${id}-${[split, basename(file, extname(file))][count] ?? count}`
      earlier = this.#claims.get(unique)
    }
    if (unique !== id) note('id_made_unique')
    this.#claims.set(unique, record)
    this.#keep(record, place, content)
    return unique
  }

  #keep(record: number, place: number, content: number): void {
    if (2 * record >= this.#facts.length) {
      const more = new Int32Array(4 * record)
      more.set(this.#facts)
      this.#facts = more
    }
    this.#facts.set([place, content], 2 * record)
  }
}

function hashOf({ question, answer, images }: Draft): number {
  const text = JSON.stringify([question, answer, images.map(({ name }) => name)])
  return createHash('sha256').update(text).digest().readInt32LE()
}
