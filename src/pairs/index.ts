/**
 * `fire-train/pairs`: preference pairs from answers: who judges and edits (rules, a language model, your own provider), the
 * edits as character spans, the checks that a pair must pass, and a whole file at once.
 */

export type { Origin, PairOutcome, Rejection } from './build.js'
export { type ConstructContext, constructPair, type Task } from './construct.js'
export { diffEdits, diffWords } from './diff.js'
export { type AppliedEdits, applyEdits, EditError, type EditProposal } from './edits.js'
export { EndpointProvider } from './endpoint/provider.js'
export { type PairMode, pairModes } from './mode.js'
export { type PerplexityGap, perplexityGap } from './perplexity.js'
export { PhantomProvider } from './phantom/provider.js'
export type { BlindJudge, Goal, Judgement, Proposal, Provider, Refusal, Unit } from './provider.js'
export {
  /** Judges and edits by word lists and grammar rules, offline: the same text always becomes the same edit. */
  RulesProvider,
} from './rules/provider.js'
export { type BuildPairsOptions, type BuildPairsResult, buildPairs, type PairReport, type Perplexity } from './run.js'
export type { PairStatistics } from './statistics.js'
export { type StyleGap, styleGap } from './style.js'
export {
  /** The limits that `buildPairs` and `constructPair` use where none are given. */
  defaultVerifyLimits,
  /** How much an edit may change. */
  type VerifyLimits,
  verifyPair,
} from './verify.js'
