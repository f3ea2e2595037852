/**
 * Campaigns of hostile input: seeded mutations of good files, in numbers. A few rounds run in `npm test`, many in
 * `npm run test:hostile`. `FIRE_HOSTILE_SEED` starts another sequence; a failing round names its seed.
 */
import { Draws } from '../../src/bench/random.js'

const long = process.env.FIRE_HOSTILE === 'long'

/** How many rounds this run plays. */
export function rounds(short: number, many: number): number {
  return long ? many : short
}

/** Time for a test of so many rounds, in ms. */
export function timeFor(short: number): number {
  return long ? 3_600_000 : short
}

/** The draws of one round of a campaign; equal for equal seed, name and round. */
export function drawsOf(campaign: string, round: number): Draws {
  return new Draws(`${campaign}/${round}`, Number(process.env.FIRE_HOSTILE_SEED ?? 0))
}

/** One of several, by the draws. */
export function pick<T>(draws: Draws, choices: readonly T[]): T {
  return choices[draws.integers(1, 0, choices.length)[0]]
}
