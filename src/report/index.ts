/** `fire-train/report`: the page of a run, one HTML file that needs nothing else, from what its stages left on disk. */

export { collectReport, type ReportOptions, type ReportSources } from './collect.js'
export { renderReport } from './report.js'
export type { AttentionExample, ChangedAnswer, ExamplePair, ReportData, Span, StageTime } from './types.js'
