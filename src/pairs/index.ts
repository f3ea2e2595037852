export type { Origin, PairOutcome, Rejection, Verdict } from './build.js'
export { hashNumber } from './choice.js'
export { type ConstructContext, constructPair, type PairMode, pairModes, type Task } from './construct.js'
export { diffEdits, diffWords } from './diff.js'
export { type AppliedEdits, applyEdits, EditError, type EditProposal } from './edits.js'
export { EndpointProvider } from './endpoint/provider.js'
export { outputFiles } from './files.js'
export { perplexityGap } from './perplexity.js'
export { PhantomProvider } from './phantom/provider.js'
export type { BlindJudge, Goal, Judgement, Proposal, Provider, Refusal, Unit } from './provider.js'
export { RulesProvider } from './rules/provider.js'
export { readAnswer } from './rules/reader.js'
export {
  type BuildPairsOptions,
  type BuildPairsResult,
  buildPairs,
  type PairReport,
  type Perplexity,
} from './run.js'
export { countOutcome, emptyStatistics, type PairStatistics } from './statistics.js'
export { type StyleGap, styleGap } from './style.js'
export { defaultVerifyLimits, type VerifyLimits, verifyPair } from './verify.js'
