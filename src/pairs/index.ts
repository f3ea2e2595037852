export {
  buildPair,
  type Origin,
  type PairLimits,
  type PairOutcome,
  type PairRequest,
  type Rejection,
  type Verdict,
} from './build.js'
export { type ConstructContext, constructPair, type PairMode, pairModes, type Task } from './construct.js'
export { diffEdits, diffWords } from './diff.js'
export { type AppliedEdits, applyEdits, EditError, type EditProposal, editedShare } from './edits.js'
export { EndpointProvider } from './endpoint/provider.js'
export type { BlindJudge, Goal, Judgement, Proposal, Provider, Refusal, Unit } from './provider.js'
export { readAnswer } from './rules/judge.js'
export { RulesProvider } from './rules/provider.js'
export {
  type BuildPairsOptions,
  type BuildPairsResult,
  buildPairs,
  outputFiles,
  type PairReport,
  type Perplexity,
  writeReport,
} from './run.js'
export { countOutcome, emptyStatistics, type PairStatistics } from './statistics.js'
export { type StyleGap, styleGap } from './style.js'
export { defaultVerifyLimits, type VerifyLimits, verifyPair } from './verify.js'
