/**
 * Philox 4x32-10, a counter-based generator: random word number `n` of a key is a pure function of `(key, n)`.
 *
 * So the noise of a pixel does not depend on which other pixels were drawn before it, and a mask can change without
 * changing the noise elsewhere. Formula: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 */

const MULTIPLIER_0 = 0xd2511f53
const MULTIPLIER_1 = 0xcd9e8d57
const WEYL_0 = 0x9e3779b9
const WEYL_1 = 0xbb67ae85
const ROUNDS = 10

/** High 32 bits of the product of two unsigned 32-bit integers, through 16-bit halves: each sum stays below 2^53. */
function multiplyHigh(a: number, b: number): number {
  const [aHigh, aLow] = [a >>> 16, a & 0xffff]
  const [bHigh, bLow] = [b >>> 16, b & 0xffff]
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16)
  const carry = aLow * bHigh + (middle % 0x10000)
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0
}

/** Four unsigned 32-bit words for a 128-bit counter and a 64-bit key, all as unsigned 32-bit words, low word first. */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [x0, x1, x2, x3] = counter
  let [k0, k1] = key
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, x0)
    const low0 = Math.imul(MULTIPLIER_0, x0) >>> 0
    const high1 = multiplyHigh(MULTIPLIER_1, x2)
    const low1 = Math.imul(MULTIPLIER_1, x2) >>> 0
    ;[x0, x1, x2, x3] = [(high1 ^ x1 ^ k0) >>> 0, low1, (high0 ^ x3 ^ k1) >>> 0, low0]
    k0 = (k0 + WEYL_0) >>> 0
    k1 = (k1 + WEYL_1) >>> 0
  }
  return [x0, x1, x2, x3]
}

/**
 * Four independent standard normal numbers, by Box and Muller: `sqrt(-2 ln u) cos(2 pi v)` and the sine twin, with u in
 * (0, 1] so that the logarithm is finite.
 */
export function normals(counter: number, key: readonly [number, number]): [number, number, number, number] {
  const [a, b, c, d] = philox4x32([counter >>> 0, Math.floor(counter / 0x100000000), 0, 0], key)
  const [r, s] = [Math.sqrt(-2 * Math.log((a + 1) / 0x100000000)), Math.sqrt(-2 * Math.log((c + 1) / 0x100000000))]
  const [angle, bngle] = [(2 * Math.PI * b) / 0x100000000, (2 * Math.PI * d) / 0x100000000]
  return [r * Math.cos(angle), r * Math.sin(angle), s * Math.cos(bngle), s * Math.sin(bngle)]
}
