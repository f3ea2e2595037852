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
export { type AlongTraining, alongTraining, type TrainingPoint } from './along.js'
export {
  type AttentionMap,
  attentionRatio,
  type Probe,
  type ProbedModel,
  type ProbeRequest,
  probeAttention,
} from './attention.js'
export { compareEvaluations } from './between.js'
export { type ComparedGroup, compareSystems, type Resolution, type SystemComparison } from './compare.js'
export { type Diversity, diversityOf } from './diversity.js'
export {
  type Evaluated,
  type EvaluationContext,
  type EvaluationRequest,
  evaluate,
  type JudgingRequest,
  type RejudgeRequest,
  rejudge,
} from './evaluation.js'
export { type EvaluationResults, readEvaluation } from './finished.js'
export { type Box, type Frame, type Grid, touchedTokens } from './grounding/boxes.js'
export { type Grounding, type GroundingConvention, groundingMetrics, type HeadWeights } from './grounding/metrics.js'
export type { GroundingRequest, MeanRatios } from './grounding.js'
export type { HiddenResults, HidingRequest } from './hidden.js'
export { type HidingMethod, hidingMethods } from './hiding.js'
export { type Judge, judgeAnswers, rulesJudge } from './judge.js'
export { renderEvaluation, writeTables } from './page/render.js'
export { phantomJudge } from './phantom.js'
export { finalAnswer } from './questions/final-answer.js'
export { openAccuracy, parityOf } from './questions/parity.js'
export { judgeByRule } from './questions/rule.js'
export type { GreenReading, Prediction, ReportRecord, RuleVerdict, VerdictRecord } from './records.js'
export { readGreen } from './reports/green.js'
export { type GreenParity, readGreenParity } from './reports/green-parity.js'
export { bleu, ciderD, type ReportWords, reportWords, rougeL } from './reports/ngrams.js'
export type { RewardRequest } from './rewards/run.js'
export { type CrossedResults, type RewardResults, rewardResults } from './rewards/summary.js'
export { type EvaluatedRounds, readRounds } from './rounds.js'
export { type QuestionValue, questionPass, type SampledResults, sampledResults } from './several.js'
export type { AnsweringSystem } from './systems.js'
