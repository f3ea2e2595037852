/** What a pair is. */

/**
 * `on-policy`: the model's answer and its edited twin. `phrases`: the decisive phrases of such a pair alone. `reference-chosen`:
 * the reference against the rejected side of such a pair. `reference-style`: the reference and its edited twin, so both sides
 * speak as the dataset does.
 */
export const pairModes = ['on-policy', 'phrases', 'reference-chosen', 'reference-style'] as const
/** One of `pairModes`. */
export type PairMode = (typeof pairModes)[number]

/** What cannot be had together with a mode, in words. */
export function modeProblem(mode: PairMode, logprobFloor: number | undefined): string | undefined {
  if (logprobFloor === undefined || mode === 'on-policy' || mode === 'reference-style') return undefined
  return `A floor of log-probabilities weighs an edit of a text, and the sides of ${mode} are no text and its edit`
}
