export { collectReport, type ReportOptions, type ReportSources } from './collect.js'
export { renderReport } from './report.js'
export type {
  AttentionExample,
  ChangedAnswer,
  ExamplePair,
  MetricsRow,
  ReportData,
  Span,
  Stage,
} from './types.js'
export { headline, percent } from './words.js'
