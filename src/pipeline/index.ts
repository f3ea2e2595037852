export { loadPipeline, type Pipeline } from './config.js'
export { type PipelineContext, type PipelineReport, planPipeline, runPipeline, type StageOutcome } from './run.js'
export {
  type Artifacts,
  defineStage,
  type PipelineProgress,
  type Section,
  type Shared,
  type Stage,
  type StageContext,
  type StageDefinition,
  type StageResult,
} from './stage.js'
