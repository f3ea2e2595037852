/** `fire-train/evaluate`: systems that answer, judges, reports, grounding, and what may be said of their differences. */

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
