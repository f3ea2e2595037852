/** The phantom world: synthetic chest radiographs with exact truth, questions, a judge by rule, and answers said again. */

export { homeRegions } from './findings.js'
export { judge, judgeSentence } from './judge.js'
export { readTruth, studySamples } from './record.js'
export { categoryOf, counterfactual, judgeUnit, repair } from './restate.js'
export { Rng } from './rng.js'
export type {
  Ask,
  Claim,
  EditCategory,
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
