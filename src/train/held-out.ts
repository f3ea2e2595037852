/** Pairs that are evaluated and never trained on: a file of their own, or a share of the training pairs. */
import { sha256 } from '../data/files.js'
import type { Pair } from '../data/records.js'
import { ConfigError } from '../errors.js'
import type { Example } from './collate.js'
import type { TrainConfig } from './settings.js'

/** What is evaluated, ready for the engine and as it was written. */
export interface HeldOut {
  examples: Example[]
  /** By id. */
  records: ReadonlyMap<string, Pair>
}

/**
 * Puts about this share of the images aside, with all their pairs. The content of an image decides alone: not the seed, nor the
 * other images. So runs and rounds that go on from one another hold out the same ones; but images that pairs connect go the way of
 * the first of them by hash, which may be another one beside other pairs. Both parts keep the order of the file.
 * @throws {ConfigError} when one part would be empty.
 */
export function splitByImage(examples: readonly Example[], share: number): { trained: Example[]; heldOut: Example[] } {
  const held = new Set(
    connected(examples)
      .filter((group) => shareOf(group) < share)
      .flat(),
  )
  const heldOut = examples.filter((example) => held.has(example))
  const trained = examples.filter((example) => !held.has(example))
  if (heldOut.length > 0 && trained.length > 0) return { trained, heldOut }
  throw new ConfigError(
    `data.evalShare ${share} leaves ${trained.length} pairs to train on and ${heldOut.length} to evaluate`,
    {
      hint: 'Each image is held out or not by its content, with all its pairs. Give another share, or a file of held-out pairs as data.eval.',
    },
  )
}

/** From 0 to 1, evenly: of the first of the images by hash. A pair without images stands for itself. */
export function shareOf(group: readonly Pick<Example, 'input'>[]): number {
  const [first] = group.flatMap(({ input }) => (input.images.length > 0 ? input.images : [input.id])).sort()
  return Number.parseInt(sha256(first).slice(0, 12), 16) / 16 ** 12
}

/** Groups of pairs that share no image with another group, in the order of their first pairs. */
function connected(examples: readonly Example[]): Example[][] {
  const groups = new Set<Example[]>()
  const groupOf = new Map<string, Example[]>()
  for (const example of examples) {
    const found = example.input.images.map((image) => groupOf.get(image)).filter((group) => group !== undefined)
    const [group = [], ...others] = new Set(found)
    for (const other of others) groups.delete(other)
    const joined = [...others.flat(), example]
    group.push(...joined)
    groups.add(group)
    for (const { input } of joined) for (const image of input.images) groupOf.set(image, group)
  }
  return [...groups]
}

/** @throws {ConfigError} when a metric that decides something cannot have a value. */
export function requireMetrics({ checkpoint, earlyStopping }: TrainConfig, examples: readonly Example[]): void {
  const decisive = [checkpoint.best, earlyStopping?.metric].find((metric) => metric?.includes('/visual/'))
  if (!decisive || examples.some(({ input }) => input.corruptedImages !== null)) return
  throw new ConfigError(`${decisive} has no value: no held-out pair has a corrupted image`, {
    hint: 'Run fire-train corrupt on the held-out pairs, or choose another metric.',
  })
}

/** How many of the held-out pairs show an image that is trained on: what they measure is then no generalisation. */
export function sharedImages(heldOut: readonly Example[], trained: readonly Example[]): number {
  const seen = new Set(trained.flatMap(({ input }) => input.images))
  return heldOut.filter(({ input }) => input.images.some((image) => seen.has(image))).length
}
