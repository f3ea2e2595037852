/** The order of pairs: every pair once an epoch, by seed and epoch only, so that a resumed run goes on with the same ones. */
import type { Example } from './collate.js'

/** `random`: pairs in any order, as published. `image`: images in any order, and the pairs of each one after the other. */
export const orders = ['random', 'image'] as const

/** What decides the pairs of a step, beside the pairs. */
export interface OrderSettings {
  order: (typeof orders)[number]
  seed: number
  batchSize: number
}

/** The pairs of each optimizer step. */
export class PairOrder {
  readonly stepsPerEpoch: number
  readonly #examples: readonly Example[]
  readonly #settings: OrderSettings
  /** The last one that was asked for. */
  #epoch: { number: number; pairs: Example[] } | undefined

  constructor(examples: readonly Example[], settings: OrderSettings) {
    this.stepsPerEpoch = Math.ceil(examples.length / settings.batchSize)
    this.#examples = examples
    this.#settings = settings
  }

  /** The pairs of step `step` (from 0); the last step of an epoch may have fewer. */
  of(step: number): Example[] {
    const start = (step % this.stepsPerEpoch) * this.#settings.batchSize
    return this.#pairsOf(Math.floor(step / this.stepsPerEpoch)).slice(start, start + this.#settings.batchSize)
  }

  #pairsOf(number: number): Example[] {
    const { order, seed } = this.#settings
    if (this.#epoch?.number !== number) {
      const pairs = epochOrder(this.#examples, seed, number, order === 'image' ? firstImage : undefined)
      this.#epoch = { number, pairs }
    }
    return this.#epoch.pairs
  }
}

/**
 * Items in the order of an epoch.
 * @param groupOf items of one group stay together; groups are shuffled, then the items of each.
 */
export function epochOrder<T>(items: readonly T[], seed: number, epoch: number, groupOf?: (item: T) => string): T[] {
  const random = generator(seed, epoch)
  if (!groupOf) return shuffled(items, random)
  return shuffled(grouped(items, groupOf), random).flatMap((group) => shuffled(group, random))
}

/**
 * What pairs of one image share: the hash of the file's content, so that copies under other names are one image. Of several images
 * it is the first, since what follows another image is computed anew. A pair without images is by itself.
 */
export const firstImage = ({ input }: Example): string => input.images[0] ?? `pair ${input.id}`

/** In the order of their first items. */
export function grouped<T>(items: readonly T[], groupOf: (item: T) => string): T[][] {
  const groups = new Map<string, T[]>()
  for (const item of items) {
    const key = groupOf(item)
    const group = groups.get(key)
    if (group) group.push(item)
    else groups.set(key, [item])
  }
  return [...groups.values()]
}

/** A copy, shuffled (Fisher-Yates over a 32-bit generator, free of modulo bias). */
function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const order = [...items]
  for (let last = order.length - 1; last > 0; last -= 1) {
    const other = below(random, last + 1)
    const kept = order[last]
    order[last] = order[other]
    order[other] = kept
  }
  return order
}

function below(random: () => number, limit: number): number {
  const fair = 2 ** 32 - (2 ** 32 % limit)
  let value = random()
  while (value >= fair) value = random()
  return value % limit
}

/** sfc32 (Chris Doty-Humphrey, PractRand), warmed up by twelve rounds. */
function generator(seed: number, stream: number): () => number {
  let a = seed >>> 0
  let b = Math.floor(seed / 2 ** 32) >>> 0
  let c = stream >>> 0
  let counter = 1
  const next = (): number => {
    const value = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + value) | 0
    return value >>> 0
  }
  for (let round = 0; round < 12; round += 1) next()
  return next
}
