import { createHash } from 'node:crypto'

/**
 * A seed for one record that depends on nothing but the run's seed and the record's id: 53 bits of SHA-256, so that it
 * is a safe integer, survives JSON and may stand in the record itself.
 */
export function recordSeed(recordId: string, seed: number): number {
  const digest = createHash('sha256').update(`${seed}\n${recordId}`).digest()
  return digest.readUIntBE(0, 6) * 32 + (digest[6] & 31)
}

/** Whose the noise is: each pair's own, as published, or that of image and mask, which all questions with that mask share. */
export const seedings = ['pair', 'image'] as const
/** One of `seedings`. */
export type SeedBy = (typeof seedings)[number]
