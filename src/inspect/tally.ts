/** Counts in bounded memory, whatever the number of records. */
import { createHash } from 'node:crypto'

/** How often each value came, the most frequent first. */
export type Counts = [value: string, count: number][]

/** Values told apart; what comes after so many is counted together. */
const distinctValues = 200

/** Counts values; `others` holds those beyond the bound. */
export class Categories {
  readonly #counts = new Map<string, number>()
  #others = 0

  add(value: string): void {
    const count = this.#counts.get(value)
    if (count === undefined && this.#counts.size >= distinctValues) this.#others += 1
    else this.#counts.set(value, (count ?? 0) + 1)
  }

  counts(): Counts {
    const sorted = [...this.#counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
    return this.#others > 0 ? [...sorted, [`(${distinctValues} and more others)`, this.#others]] : sorted
  }
}

/** How a number is distributed over the records. */
export interface Spread {
  count: number
  min: number
  /** Exact up to 1000, above within 1 %. */
  median: number
  p95: number
  max: number
  mean: number
}

/** The distribution of non-negative numbers. */
export class Numbers {
  readonly #bins = new Map<number, number>()
  #count = 0
  #sum = 0
  #min = Number.POSITIVE_INFINITY
  #max = 0

  add(value: number): void {
    this.#count += 1
    this.#sum += value
    this.#min = Math.min(this.#min, value)
    this.#max = Math.max(this.#max, value)
    const bin = value <= 1000 ? value : Math.round(1.01 ** Math.round(Math.log(value) / Math.log(1.01)))
    this.#bins.set(bin, (this.#bins.get(bin) ?? 0) + 1)
  }

  /** `undefined` when there was no number. */
  spread(): Spread | undefined {
    if (this.#count === 0) return undefined
    const bins = [...this.#bins].sort(([a], [b]) => a - b)
    const quantile = (share: number): number => {
      let left = share * this.#count
      for (const [value, count] of bins) {
        left -= count
        if (left <= 0) return Math.min(value, this.#max)
      }
      return this.#max
    }
    const mean = this.#sum / this.#count
    return { count: this.#count, min: this.#min, median: quantile(0.5), p95: quantile(0.95), max: this.#max, mean }
  }
}

/**
 * Where each text was first seen, at 12 bytes a text: texts are told apart by 52 bits of SHA-256, so among a million there
 * is one wrong match in about ten thousand files.
 */
export class Seen {
  #keys = new Float64Array(1024)
  #places = new Int32Array(1024)
  #size = 0

  /** The earlier place of this text; undefined, and `place` is kept, when it is new. */
  add(text: string, place: number): number | undefined {
    if (this.#size * 2 >= this.#keys.length) this.#grow()
    const key = fingerprint(text)
    const slot = this.#slot(key)
    if (this.#keys[slot] !== 0) return this.#places[slot]
    this.#keys[slot] = key
    this.#places[slot] = place
    this.#size += 1
    return undefined
  }

  /** Replaces the place of a text that was seen. */
  set(text: string, place: number): void {
    this.#places[this.#slot(fingerprint(text))] = place
  }

  get size(): number {
    return this.#size
  }

  #slot(key: number): number {
    const mask = this.#keys.length - 1
    let slot = key % this.#keys.length
    while (this.#keys[slot] !== 0 && this.#keys[slot] !== key) slot = (slot + 1) & mask
    return slot
  }

  #grow(): void {
    const [keys, places] = [this.#keys, this.#places]
    this.#keys = new Float64Array(keys.length * 2)
    this.#places = new Int32Array(keys.length * 2)
    for (const [index, key] of keys.entries()) {
      if (key === 0) continue
      const slot = this.#slot(key)
      this.#keys[slot] = key
      this.#places[slot] = places[index]
    }
  }
}

/** 52 bits of SHA-256, never 0. */
export function fingerprint(text: string): number {
  const digest = createHash('sha256').update(text).digest()
  return digest.readUIntBE(0, 6) * 16 + (digest[6] & 15) || 1
}

/** Keeps a few records that stand for all: those whose ids have the smallest fingerprints, whatever the file's order. */
export class Examples<T> {
  readonly #limit: number
  readonly #kept: { rank: number; record: T }[] = []

  constructor(limit: number) {
    this.#limit = limit
  }

  add(id: string, record: T): void {
    const rank = fingerprint(id)
    if (this.#kept.length === this.#limit && rank >= (this.#kept.at(-1)?.rank ?? 0)) return
    this.#kept.push({ rank, record })
    this.#kept.sort((a, b) => a.rank - b.rank)
    this.#kept.length = Math.min(this.#kept.length, this.#limit)
  }

  records(): T[] {
    return this.#kept.map(({ record }) => record)
  }
}
