/** Several tests at once. */

/**
 * Holm's adjusted p: the chance of even one false finding among all tests stays below the level. Holm, Scand. J. Stat. 6 (1979) 65.
 * @returns in the order of `p`.
 */
export function holm(p: readonly number[]): number[] {
  let highest = 0
  return adjust(p, 'ascending', (value, rank) => {
    highest = Math.max(highest, (p.length - rank) * value)
    return Math.min(1, highest)
  })
}

/**
 * Benjamini and Hochberg's adjusted p: of what is found, the expected share of false findings stays below the level. J. Royal Stat.
 * Soc. B 57 (1995) 289.
 * @returns in the order of `p`.
 */
export function benjaminiHochberg(p: readonly number[]): number[] {
  let lowest = 1
  return adjust(p, 'descending', (value, rank) => {
    lowest = Math.min(lowest, (p.length / (rank + 1)) * value)
    return lowest
  })
}

/** @param step called in the given order with the value and its ascending rank, from 0. */
function adjust(
  p: readonly number[],
  order: 'ascending' | 'descending',
  step: (value: number, rank: number) => number,
): number[] {
  const ranked = p.map((value, index) => ({ value, index })).sort((a, b) => a.value - b.value)
  const steps = ranked.map(({ value, index }, rank) => ({ value, index, rank }))
  if (order === 'descending') steps.reverse()
  const adjusted = new Array<number>(p.length)
  for (const { value, index, rank } of steps) adjusted[index] = step(value, rank)
  return adjusted
}
