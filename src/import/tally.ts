/** What an import is made of, counted as it streams by, and which images its splits share. */
import { DataError } from '../errors.js'
import { splitRank } from './source.js'

/** What a split holds. */
export interface SplitCounts {
  records: number
  closed: number
  open: number
  /** Different images the records refer to, by content; by name where the files were not there. */
  images: number
}

/** Images that two splits have in common: what is learned on one is seen again on the other. */
export interface Leak {
  splits: [string, string]
  images: number
  /** Share of the second split's images, in [0, 1]. */
  share: number
}

/** More is a column that was mistaken for the split. */
const mostSplits = 64

interface Split extends Omit<SplitCounts, 'images'> {
  images: Set<string>
}

export class Tally {
  readonly #splits = new Map<string, Split>()

  add(split: string, closed: boolean, images: readonly string[]): void {
    const counts = this.#splits.get(split) ?? this.#open(split)
    counts.records += 1
    counts[closed ? 'closed' : 'open'] += 1
    for (const image of images) counts.images.add(image)
  }

  counts(): Record<string, SplitCounts> {
    return Object.fromEntries(this.#inOrder().map(([name, split]) => [name, { ...split, images: split.images.size }]))
  }

  /** Every two splits that share an image. */
  leaks(): Leak[] {
    const splits = this.#inOrder()
    return splits.flatMap(([first, a], index) =>
      splits.slice(index + 1).flatMap(([second, b]): Leak[] => {
        let images = 0
        for (const image of b.images) if (a.images.has(image)) images += 1
        return images === 0 ? [] : [{ splits: [first, second], images, share: images / b.images.size }]
      }),
    )
  }

  #inOrder(): [string, Split][] {
    return [...this.#splits].sort(([a], [b]) => splitRank(a) - splitRank(b))
  }

  #open(name: string): Split {
    if (this.#splits.size === mostSplits) {
      throw new DataError(
        `The records have more than ${mostSplits} different splits; the last is ${JSON.stringify(name)}`,
        {
          hint: 'The field "split" is meant for a few names such as train and test.',
        },
      )
    }
    const split = { records: 0, closed: 0, open: 0, images: new Set<string>() }
    this.#splits.set(name, split)
    return split
  }
}
