/** `fire-train/train`: the training run, its plan and configuration, and the parts to write a loop of your own. */

export { type Coefficient, type ObjectiveTraits, objectiveNames, objectives } from '../engine/objectives.js'
export type { Ranks, World } from '../ranks/ranks.js'
export { type CollateContext, collate, type Example } from './collate.js'
export { formatConfig, loadTrainConfig, resolveTrainConfig } from './config.js'
export type { Machine } from './machine.js'
export type { MemoryNeed } from './memory.js'
export {
  type Computed,
  type EvaluationMetric,
  type EvaluationRow,
  type MetricsRow,
  metricsRow,
  type StepContext,
} from './metrics.js'
export { type PlanOptions, planTraining, type RankTraffic, type TrainPlan } from './plan.js'
export { type RunAdapter, runAdapters } from './run-folder.js'
export { learningRateFactor, type Schedule, warmupSteps } from './schedule.js'
export type { TrainConfig, TrainConfigInput } from './settings.js'
export { type TrainOptions, type TrainProgress, train } from './train.js'
export type { TrainReport } from './train-report.js'
export type { PrepareOptions } from './types.js'
