export {
  buildPair,
  type Origin,
  type PairLimits,
  type PairOutcome,
  type PairRequest,
  type Rejection,
  type Verdict,
} from './build.js'
export { diffEdits } from './diff.js'
export { type AppliedEdits, applyEdits, EditError, type EditProposal, editedShare } from './edits.js'
export { countOutcome, emptyStatistics, type PairStatistics } from './statistics.js'
