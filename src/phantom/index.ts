/** The phantom world: synthetic chest radiographs with exact truth, questions, a judge by rule, and minimal edits. */

export { counterfactual, repair } from './edits.js'
export { homeRegions } from './findings.js'
export { judge } from './judge.js'
export { Rng } from './rng.js'
export type {
  Ask,
  Claim,
  EditCategory,
  EditProposal,
  Finding,
  FindingFacts,
  FindingType,
  Intent,
  Side,
  Size,
  Split,
  Study,
  StudyQuestion,
  Truth,
  Verdict,
  Zone,
} from './types.js'
export { conceptMask, generateStudies, generateStudy, studyPixels } from './world.js'
