/** `fire-train/inspect`: what record files hold and what is wrong with them. */

export { type InspectOptions, inspectFiles } from './inspect.js'
export type { Example, Inspection, MarkedText, Problem } from './report.js'
export type { Counts, Spread } from './tally.js'
