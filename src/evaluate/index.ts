/** `fire-train/evaluate`: answers before and after training, judged and compared; the statistics; attention against masks; lesions hidden. */

export {
  accuracyByGroup,
  type Conclusion,
  compareRounds,
  type Group,
  type GroupAccuracy,
  type GroupComparison,
  type JudgedAnswer,
} from './accuracy.js'
export {
  type AttentionMap,
  attentionRatio,
  type Probe,
  type ProbedModel,
  type ProbeRequest,
  probeAttention,
} from './attention.js'
export {
  type EvaluateContext,
  type EvaluateRequest,
  type EvaluationResults,
  evaluateAdapter,
} from './evaluate.js'
export type { GroundingRequest, MeanRatios } from './grounding.js'
export type { HiddenResults, HidingMethod, HidingRequest } from './hidden.js'
export { type Judge, judgeAnswers } from './judge.js'
export { matchAnswer, type OpenMatch, rulesJudge } from './match.js'
export { phantomJudge } from './phantom.js'
export {
  clusteredDifference,
  countPaired,
  type Interval,
  mcnemarExact,
  type PairedCounts,
  type Proportion,
  pairedDifference,
  wilson,
} from './statistics.js'
