export { loadPipeline, type Pipeline, type PlannedStage, pipelineSchema, sharedSettings } from './config.js'
export { type PipelineContext, type PipelineReport, planPipeline, runPipeline, type StageOutcome } from './run.js'
export { stages } from './stages.js'
