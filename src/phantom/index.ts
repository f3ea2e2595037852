/**
 * `fire-train/phantom`: synthetic chest radiographs with exact truth, questions, a judge by rule, and answers said again. For
 * tests and demonstrations that need no data set.
 */

export { judge, judgeSentence } from './judge.js'
export { readTruth, studySamples } from './record.js'
export { counterfactual, repair } from './restate.js'
export { Rng } from './rng.js'
export type {
  Ask,
  Claim,
  Difficulty,
  Finding,
  FindingFacts,
  FindingType,
  Side,
  Size,
  Split,
  Study,
  StudyQuestion,
  Truth,
  Zone,
} from './types.js'
export { STANDARD } from './types.js'
export { conceptMask, generateStudies, generateStudy, studyPixels } from './world.js'
