/** Choices that depend on nothing but their key: not on order, time or how often a run was interrupted. */
import { createHash } from 'node:crypto'

/** A whole number below 2^32 from a text. */
export function hashNumber(...parts: string[]): number {
  return createHash('sha256').update(JSON.stringify(parts)).digest().readUInt32BE()
}

/** One of several, by a key. */
export function choose<T>(options: readonly T[], ...key: string[]): T {
  return options[hashNumber(...key) % options.length]
}
