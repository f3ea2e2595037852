export { renderReport } from './report.js'
export type {
  AttentionExample,
  ChangedAnswer,
  ExamplePair,
  MetricsRow,
  Picture,
  ReportData,
  Span,
  Stage,
} from './types.js'
export { headline, percent } from './words.js'
