/**
 * How much more a question draws attention to the truth region of an image than a neutral prompt does: attention ratio, KL and JS of
 * VGMED (Liu et al., arXiv 2603.14323).
 */
import { DataError } from '../../errors.js'

/**
 * `exact`: the formulas, without constants. `upstream`: Medical-MLLMs-Fail, with 1e-8 in the ratio and clamps in KL and JS.
 * `companion`: FiRe-MPO's own script, which clamps the general prompt's attention at 1e-8. They agree to 2e-7 unless something is 0.
 */
export const groundingConventions = ['exact', 'upstream', 'companion'] as const
/** Which constants are added. */
export type GroundingConvention = (typeof groundingConventions)[number]

/** Attention of one layer from one position to the image's tokens, `[heads][tokens]` row by row, each not negative. */
export interface HeadWeights {
  heads: number
  weights: ArrayLike<number>
}

/** One layer's numbers. */
export interface Grounding {
  /** Mean relative attention inside the region over that of all tokens: 1 is no preference, higher is better. */
  ar: number
  /** KL(region || relative attention), natural logarithm: 0 where they are the same; infinite where the region has none. */
  kl: number
  /** Jensen-Shannon divergence, in [0, ln 2]. */
  js: number
}

/**
 * Relative attention is the mean over heads of the question's, divided by the mean over heads of the general prompt's (never the
 * mean of quotients). The scale of either does not matter.
 *
 * @param region weight of each token, for instance 1 inside and 0 outside, or the part of its cell that is covered.
 * @throws {DataError} for an empty region, and (but under `companion`) where the general prompt gives a token no attention.
 */
export function groundingMetrics(
  question: HeadWeights,
  general: HeadWeights,
  region: ArrayLike<number>,
  convention: GroundingConvention = 'exact',
): Grounding {
  return compareToRegion(relativeAttention(question, general, region.length, convention), region, convention)
}

/** `mean over heads of question / mean over heads of general`, a number a token. */
export function relativeAttention(
  question: HeadWeights,
  general: HeadWeights,
  tokens: number,
  convention: GroundingConvention = 'exact',
): Float64Array {
  const [q, g] = [headMean(question, tokens), headMean(general, tokens)]
  return q.map((value, token) => {
    if (!Number.isFinite(value) || !Number.isFinite(g[token])) throw new DataError('Attention is not a number')
    if (g[token] === 0 && convention !== 'companion') {
      throw new DataError(`The general prompt gives token ${token} no attention`, {
        hint: 'Its quotient has no value. Attention in float32 does not reach 0; look at how it was made.',
      })
    }
    return value / (convention === 'companion' ? Math.max(g[token], 1e-8) : g[token])
  })
}

/** Mean over heads. @throws {DataError} unless there are `heads * tokens` weights. */
export function headMean({ heads, weights }: HeadWeights, tokens: number): Float64Array {
  if (weights.length !== heads * tokens) {
    throw new DataError(`${weights.length} attention weights are not those of ${heads} heads and ${tokens} tokens`)
  }
  const mean = new Float64Array(tokens)
  for (let i = 0; i < weights.length; i++) mean[i % tokens] += weights[i] / heads
  return mean
}

function compareToRegion(
  relative: Float64Array,
  region: ArrayLike<number>,
  convention: GroundingConvention,
): Grounding {
  const tokens = relative.length
  const total = relative.reduce((sum, value) => sum + value, 0)
  let [size, inside] = [0, 0]
  for (let token = 0; token < tokens; token++) {
    size += region[token]
    inside += region[token] * relative[token]
  }
  if (size === 0) throw new DataError('The region has no token')
  const expected = (total / tokens) * size
  const distribution = distributionOf[convention]
  const [p, u] = [distribution(relative, total), Float64Array.from(region, (weight) => weight / size)]
  return {
    ar: inside / (convention === 'upstream' ? expected + 1e-8 : expected),
    kl: divergence[convention](u, p),
    js: jensenShannon(u, p, convention === 'upstream' ? 1e-8 : 0),
  }
}

const normalised = (values: Float64Array, total: number): Float64Array => values.map((value) => value / total)

const distributionOf: Record<GroundingConvention, typeof normalised> = {
  exact: normalised,
  upstream: (values, total) => normalised(values, total + 1e-8),
  companion: normalised,
}

const clamp = (value: number): number => Math.min(1, Math.max(1e-12, value))

/** KL(u || p). */
const divergence: Record<GroundingConvention, (u: Float64Array, p: Float64Array) => number> = {
  exact: (u, p) => sum(u, (value, i) => (value === 0 ? 0 : value * Math.log(value / p[i]))),
  upstream: (u, p) => sum(u, (value, i) => clamp(value) * Math.log(clamp(value) / clamp(p[i]))),
  companion: (u, p) => sum(u, (value, i) => (value === 0 ? 0 : value * Math.log(value / clamp(p[i])))),
}

/** Half of KL to the middle from either side. */
function jensenShannon(u: Float64Array, p: Float64Array, eps: number): number {
  const part = (value: number, middle: number): number =>
    value === 0 ? 0 : 0.5 * value * Math.log((value + eps) / (middle + eps))
  return sum(u, (value, i) => part(value, (value + p[i]) / 2) + part(p[i], (value + p[i]) / 2))
}

function sum(values: Float64Array, term: (value: number, i: number) => number): number {
  let total = 0
  for (const [i, value] of values.entries()) total += term(value, i)
  return total
}
