export { counting, type Progress, titled } from './progress.js'
export {
  type Artifacts,
  checkSettings,
  defineStage,
  runStage,
  type Stage,
  type StageContext,
  type StageResult,
} from './stage.js'
