/** What must hold before the first step: a policy that is its reference, and images that fill their placeholders. */
import type { CallOptions, Engine, ImageFeatures, ObjectiveSpec, PairStats } from '../engine/engine.js'
import { objectives, type Sequence } from '../engine/objectives.js'
import { SelfCheckError } from '../errors.js'
import type { Example } from './collate.js'
import { reading } from './evaluation.js'
import type { TrainConfig } from './settings.js'

const hint =
  'No step was taken. `fire-train verify` holds the engine against a golden folder; selfCheck: false trains all the same.'

/** Whether rewards and KLs must be exactly 0 before the first step: only the engine's own kernels promise equal bits. */
export function isExact({ lora, objective }: TrainConfig, engine: Engine): boolean {
  return startsAtReference(lora) && engine.info.gemm === 'native' && objectives[objective.name].prefers !== null
}

/** Whether policy and reference are the same before the first step. A fresh adapter changes nothing. */
export const startsAtReference = ({ init, reference }: TrainConfig['lora']): boolean =>
  init === null || reference === 'init'

/**
 * @param features of the images of the pairs, in their order.
 * @throws {SelfCheckError} naming the first pair whose images do not fill their placeholders.
 */
export function checkPlaceholders(
  { info: { imageTokenId } }: Engine,
  pairs: readonly Example[],
  features: readonly ImageFeatures[],
): void {
  let next = 0
  for (const { input, images } of pairs) {
    const placeholders = input.prompt.filter((id) => id === imageTokenId).length
    const encoded = features.slice(next, next + images.length)
    next += images.length
    // A twin stands in the place of its image.
    for (const shown of [encoded.slice(0, input.images.length), encoded.slice(input.images.length)]) {
      const tokens = shown.reduce((sum, each) => sum + each.tokens, 0)
      if (shown.length === 0 || tokens === placeholders) continue
      const message = `Pair ${input.id}: its images give ${tokens} rows of features, its prompt has ${placeholders} placeholders`
      throw new SelfCheckError(message, { detail: { id: input.id, tokens, placeholders }, hint })
    }
  }
}

/**
 * Reads rewards and KLs of an untrained policy: all of them, whatever the run trains with. What the reference says of `pairs`
 * stays in the reference cache, where an objective that reads the same finds it again.
 * @throws {SelfCheckError} naming the first pair where one is not exactly 0.
 */
export async function checkReference(
  engine: Engine,
  pairs: readonly Example[],
  { scope }: ObjectiveSpec,
  options: CallOptions,
): Promise<void> {
  const inputs = pairs.map(({ input }) => input)
  const stats = await engine.evaluate(inputs, reading(scope), { normalizer: inputs.length, layout: 'packed' }, options)
  for (const [index, { input }] of pairs.entries()) {
    const difference = firstDifference(stats.pairs[index])
    if (difference === undefined) continue
    const message = `Pair ${input.id}: policy and reference are the same, and ${difference} before the first step, not 0`
    throw new SelfCheckError(message, { detail: { id: input.id }, hint })
  }
}

const sequences: readonly Sequence[] = ['chosen', 'rejected', 'corruptedChosen', 'corruptedRejected']
const divergences = ['forwardKl', 'reverseKl', 'rejectedForwardKl'] as const

/** The first reward or KL that is not exactly 0, in words. What an objective does not read is NaN. */
function firstDifference(pair: PairStats): string | undefined {
  const apart = (value: number): boolean => Number.isFinite(value) && value !== 0
  for (const side of sequences) {
    const logRatio = pair.policy[side] - pair.reference[side]
    if (apart(logRatio)) return `the log-ratio of ${side} is ${logRatio}`
  }
  const kl = divergences.find((name) => apart(pair[name]))
  return kl && `${kl} is ${pair[kl]}`
}
