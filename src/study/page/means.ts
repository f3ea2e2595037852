/** Numbers of an arm over its seeds. */
import type { ArmResults } from '../results.js'

type Seed = ArmResults['seeds'][number]

/** The mean of what each seed has; null where one has nothing, so that arms are never compared on different seeds. */
export function meanOver({ seeds }: ArmResults, of: (seed: Seed) => number | null | undefined): number | null {
  const values = seeds.map(of)
  if (values.length === 0 || values.some((value) => value == null || !Number.isFinite(value))) return null
  return values.reduce<number>((sum, value) => sum + (value as number), 0) / values.length
}

/** Lowest and highest of the seeds. */
export function rangeOver(
  { seeds }: ArmResults,
  of: (seed: Seed) => number | null | undefined,
): [number, number] | null {
  const values = seeds.flatMap((seed) => of(seed) ?? [])
  return values.length < seeds.length || values.length === 0 ? null : [Math.min(...values), Math.max(...values)]
}
