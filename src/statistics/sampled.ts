/** Several sampled answers to one question: is one right, and how different are they. */
/**
 * Chance that at least one of `k` answers is right, estimated without bias from more: `1 - C(n-c, k) / C(n, k)`. Chen et al.,
 * arXiv 2107.03374.
 *
 * @param samples answers drawn.
 * @param correct how many of them are right.
 * @throws RangeError unless `0 <= correct <= samples` and `1 <= k <= samples`.
 */
export function passAtK(samples: number, correct: number, k: number): number {
  if (!(correct >= 0 && correct <= samples && k >= 1 && k <= samples)) {
    throw new RangeError(`pass@${k} cannot be estimated from ${correct} of ${samples}.`)
  }
  let missed = 1
  for (let i = 0; i < k; i++) missed *= Math.max(0, samples - correct - i) / (samples - i)
  return 1 - missed
}
