/** `fire-train/pipeline`: a file of stages, planned and run; what did not change is not run again. */

export {
  type Input,
  loadPipeline,
  type Pipeline,
  type PlannedStage,
  pipelineSchema,
  planStage,
  type SectionPlace,
  sharedSettings,
} from './config.js'
export { Hashes, type KnownHashes, knownHashes } from './hashes.js'
export { type PipelineContext, type PipelineReport, planPipeline, runPipeline, type StageOutcome } from './run.js'
export { stages } from './stages.js'
