/** `fire-train/import`: published data sets, and files of your own, as sample and pair records. */

export { type ClosedRule, closedRules } from '../data/closed.js'
export type { Reason } from './draft.js'
export { type ImportOptions, importData } from './import.js'
export type { ImportReport, NoteCount, Problem } from './report.js'
export { importKinds } from './settings.js'
export { parseShares, type SplitPlan } from './split.js'
export type { Leak, SplitCounts } from './tally.js'
