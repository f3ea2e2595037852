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
export { evaluationFiles } from './files.js'
export {
  type GroundingRequest,
  type MeanRatios,
  meanRatios,
  type ProbedQuestion,
  probedQuestion,
} from './grounding.js'
export { type Judge, judgeAnswers } from './judge.js'
export { matchAnswer, type OpenMatch, rulesJudge } from './match.js'
export { phantomJudge } from './phantom.js'
export * from './statistics.js'
