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
export { judgeByRule, type Match, matchAnswer, type OpenMatch } from './match.js'
export { type PerplexityGap, perplexityGap } from './perplexity.js'
export * from './statistics.js'
