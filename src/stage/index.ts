/** `fire-train/stage`: a stage of your own, for `loadPipeline` beside the built-in ones. */

export type { Ranks, World } from '../ranks/ranks.js'
export { counting, type Place, type Progress, silent } from './progress.js'
export { type Artifacts, defineStage, type Stage, type StageContext, type StageResult } from './stage.js'
