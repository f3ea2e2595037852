export { type Answerer, type Failure, failure, type Outcome } from './answerer.js'
export { type EngineAnswererOptions, engineAnswerer } from './engine.js'
export { chosenSamples } from './questions.js'
export {
  failuresPath,
  type SampleContext,
  type SampleReport,
  type SampleRequest,
  sampleAnswers,
} from './sample.js'
export { type ServerAnswererOptions, serverAnswerer } from './server.js'
export { type SampleSettings, sampleSettings, serverSettings } from './settings.js'
