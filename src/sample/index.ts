/** `fire-train/sample`: answers to every question of a sample file, from the engine or a server; resumable. */

export type { Answerer, Failure, Outcome } from './answerer.js'
export { type EngineAnswererOptions, engineAnswerer } from './engine.js'
export type { Asked } from './questions.js'
export {
  type CollectRequest,
  collectAnswers,
  type SampleContext,
  type SampleReport,
  type SampleRequest,
  sampleAnswers,
} from './sample.js'
export { type ServerAnswererOptions, serverAnswerer } from './server.js'
export { type AnswerSettings, type SampleSettings, sampleSettings } from './settings.js'
