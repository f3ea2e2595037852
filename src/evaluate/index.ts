/** `fire-train/evaluate`: systems that answer, judges, reports, grounding, and what may be said of their differences. */

export { type AlongTraining, alongTraining, type TrainingPoint } from './along.js'
export {
  type AttentionMap,
  attentionRatio,
  type Probe,
  type ProbedModel,
  type ProbeRequest,
  probeAttention,
} from './attention.js'
export type { BlindComparison, BlindResults, BlindSummary } from './blind.js'
export { type ComparedGroup, compareSystems, type Resolution, type SystemComparison } from './compare.js'
export { type BetweenEvaluations, compareEvaluations } from './compare-folders.js'
export { type Diversity, diversityOf } from './diversity.js'
export { type EvaluationRequest, evaluate } from './evaluation.js'
export { type EvaluationResults, type ReportsResults, type Retest, readEvaluation } from './finished.js'
export { type Box, type Frame, type Grid, touchedTokens } from './grounding/boxes.js'
export { type Grounding, type GroundingConvention, groundingMetrics, type HeadWeights } from './grounding/metrics.js'
export type { GroundingFiles } from './grounding/run.js'
export type { ComparedGrounding, GroundingResults, LayerMean } from './grounding/summary.js'
export type { GroundingRequest, MeanRatios } from './grounding.js'
export { type GroupKind, type GroupResult, resultsByGroup } from './groups.js'
export type { HiddenResults, HidingRequest } from './hidden.js'
export { type HidingMethod, hidingMethods } from './hiding.js'
export type { Judge } from './judge.js'
export { type LabelledSystem, type LabelResults, readLabels } from './judges/labels.js'
export type { JudgeProtocolName } from './judges/protocols.js'
export type { JudgeRequest } from './judges/run.js'
export type { JudgeAgreement, JudgeOn } from './judges/select.js'
export type { Evaluated, EvaluationContext, JudgingRequest } from './judging.js'
export { renderEvaluation, writeTables } from './page/render.js'
export { phantomJudge } from './phantom.js'
export { finalAnswer } from './questions/final-answer.js'
export { openAccuracy, parityOf } from './questions/parity.js'
export { type PublishedTotals, publishedTotals } from './questions/published-totals.js'
export { judgeByRule, rulesVersion } from './questions/rule.js'
export type {
  GreenReading,
  GroundingRecord,
  JudgeVerdict,
  OutcomeOfAnswer,
  Parity,
  Prediction,
  PriorKind,
  ReportRecord,
  RuleVerdict,
  VerdictRecord,
} from './records.js'
export { type RejudgeRequest, rejudge } from './rejudge.js'
export { readGreen } from './reports/green.js'
export { type GreenParity, readGreenParity } from './reports/green-parity.js'
export { bleu, ciderD, type ReportWords, reportWords, rougeL } from './reports/ngrams.js'
export { type GreenPrompt, generalPrompt, trainedPrompt } from './reports/prompt.js'
export type { GreenRequest } from './reports/score.js'
export type { ComparedScore, GreenResults, ReportResults } from './reports/summary.js'
export type { JudgeAbout, Judging, SystemResults } from './results.js'
export type { RewardRequest } from './rewards/run.js'
export { type CrossedResults, type RewardResults, rewardResults } from './rewards/summary.js'
export { type QuestionValue, questionPass, type SampledResults, sampledResults } from './several.js'
export type { AnsweringSystem } from './systems.js'
export { judgeAnswers } from './verdicts.js'
